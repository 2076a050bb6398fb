"""W2: 64 images of 32×32×3 by DDIM.

Each peer's network in its float32 default, driven by a bare DDIM loop (less than any peer's own sampler does),
beside ``reverie.core.sampling.sample`` on ``ddpm`` with a network of the peer's widths, depth and attention,
in what ``--device cpu`` picks. Every step costs the same, so fewer may be timed and scaled to 50.

    python benchmarks/w2_sampling.py [--peers FOLDER] [--steps 50] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from unet_peers import SPACE, Forward, machine, pairs, parameters

from reverie.core.allocator import keep_freed_memory
from reverie.core.sampling import sample
from reverie.training.build import create

RESULTS = Path(__file__).parent / "results" / "w2_sampling.json"
COUNT, STEPS = 64, 50


@torch.no_grad()
def bare_ddim(net: nn.Module, call: Forward, steps: int) -> Tensor:
    """DDIM at eta = 0 on DDPM's betas, one fused update a step."""
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)
    times = torch.linspace(1, 0, steps + 1)
    x = torch.randn(COUNT, 3, 32, 32)
    for t, s in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        eps = call(net, x, torch.full((COUNT,), t))
        bar_t, bar_s = (alpha_bar[round(999 * u)] for u in (t, s))
        x_0 = ((x - (1 - bar_t).sqrt() * eps) / bar_t.sqrt()).clamp(-1, 1)
        x = torch.lerp(bar_s.sqrt() * x_0, eps, (1 - bar_s).sqrt())
    return x


def seconds(draw: object) -> float:
    start = time.perf_counter()
    draw()  # type: ignore[operator]
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", help="a folder of packages: pip install --target FOLDER …")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps timed")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    if given.peers:
        sys.path.append(given.peers)
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    scale = STEPS / given.steps
    rows = []
    for pair in pairs():
        options = {"network": {"name": "unet", **pair.options.model_dump()}, "sampling.steps": given.steps}
        model = create("ddpm", SPACE, changes={f"model.{key}": value for key, value in options.items()})
        bare_ddim(pair.peer, pair.call, 1)
        sample(model, COUNT, how=model.config.sampling.model_copy(update={"steps": 1}))
        theirs, ours = [], []
        for _ in range(2):
            theirs.append(scale * seconds(lambda pair=pair: bare_ddim(pair.peer, pair.call, given.steps)))
            ours.append(scale * seconds(lambda model=model: sample(model, COUNT)))
        ratio = min(theirs) / min(ours)
        rows.append({"peer": pair.name, "seconds": theirs, "ours_seconds": ours, "times_as_fast": ratio})
        print(
            f"{pair.name} ({parameters(pair.peer):.2f} M) {min(theirs):.1f} s, ours at its sizes "
            f"({parameters(pair.ours):.2f} M) {min(ours):.1f} s: {ratio:.2f} times as fast"
        )
    default = create("ddpm", SPACE, changes={"model.sampling.steps": given.steps})
    best = min(scale * seconds(lambda: sample(default, COUNT)) for _ in range(2))
    fastest = min(min(row["seconds"]) for row in rows)  # type: ignore[type-var]
    print(f"ours, default network: {best:.1f} s, {fastest / best:.1f} times as fast as the fastest peer")
    RESULTS.parent.mkdir(exist_ok=True)
    record = {**machine(), "steps_timed": given.steps, "rows": rows, "default_seconds": best}
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
