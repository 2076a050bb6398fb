"""W2: 64 images of 32×32×3 by DDIM in 50 steps.

Each peer in its float32 default, through its own sampler, in a process of its own; beside it, in turns,
``reverie.core.sampling.sample`` on ``ddpm`` with a network of the peer's widths, depth and attention, in what
``--device cpu`` picks. Every step costs the same, so fewer may be timed and scaled to 50.

    python benchmarks/w2_sampling.py [unet | transformer] [--peers FOLDER] [--steps 50] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformer_peers
import unet_peers
from unet_peers import SPACE, Apart, machine, parameters

from reverie.core.allocator import keep_freed_memory
from reverie.core.model import Model
from reverie.core.sampling import sample
from reverie.training.build import create

FAMILIES = {"unet": ("unet", unet_peers), "transformer": ("dit", transformer_peers)}
RESULTS = Path(__file__).parent / "results"
COUNT, STEPS = 64, 50


def peer_drawing(family: str, name: str, steps: int) -> tuple[dict[str, Any], Callable[[], object]]:
    """A peer's sampling, and the millions of parameters of its network."""
    peer = FAMILIES[family][1].PEERS[name]()
    peer.draw(COUNT, 1 if name != "denoising-diffusion-pytorch" else 2)
    return {"parameters_M": parameters(peer.net)}, lambda: peer.draw(COUNT, steps)


def ours(steps: int, family: str, name: str | None = None) -> Model:
    """``ddpm`` or ``dit`` at a peer's sizes, or with its recipe's own network."""
    network, peers = FAMILIES[family]
    changes: dict[str, Any] = {"model.sampling.steps": steps}
    if name is not None:
        changes["model.network"] = {"name": network, **peers.OURS[name].model_dump()}
    return create("ddpm" if family == "unet" else "dit", SPACE, changes=changes)


def seconds(model: Model) -> float:
    start = time.perf_counter()
    sample(model, COUNT)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", nargs="?", default="unet", choices=FAMILIES)
    parser.add_argument("--peers", help="a folder of packages: pip install --target FOLDER …")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps timed")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    scale = STEPS / given.steps
    rows = []
    for name in FAMILIES[given.family][1].PEERS:
        model = ours(given.steps, given.family, name)
        peer = Apart(peer_drawing, (given.family, name, given.steps), given.peers, given.threads)
        sample(model, COUNT, how=model.config.sampling.model_copy(update={"steps": 1}))
        theirs, mine = [], []
        for _ in range(2):
            theirs.append(scale * peer())
            mine.append(scale * seconds(model))
        ratio = min(theirs) / min(mine)
        rows.append({"peer": name, "seconds": theirs, "ours_seconds": mine, "times_as_fast": ratio})
        print(
            f"{name} ({peer.about['parameters_M']:.2f} M) {min(theirs):.1f} s, ours at its sizes "
            f"({parameters(model):.2f} M) {min(mine):.1f} s: {ratio:.2f} times as fast",
            flush=True,
        )
    default = ours(given.steps, given.family)
    best = min(scale * seconds(default) for _ in range(2))
    fastest = min(min(row["seconds"]) for row in rows)  # type: ignore[type-var]
    print(f"ours, default network: {best:.1f} s, {fastest / best:.1f} times as fast as the fastest peer")
    RESULTS.mkdir(exist_ok=True)
    record = {**machine(), "steps_timed": given.steps, "rows": rows, "default_seconds": best}
    (RESULTS / f"w2_{given.family}_sampling.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
