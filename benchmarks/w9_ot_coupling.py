"""W9: the minibatch optimal-transport step, rows and their noise at batch 256, against torchcfm's.

Ours finds the pairs and gathers the noise; torchcfm's ``OTPlanSampler("exact")`` finds the plan (by POT) and samples
pairs from it. Both are exact: the two summed distances are compared. Turns alternate; medians of process time.

    pip install --target FOLDER --no-deps torchcfm POT
    python benchmarks/w9_ot_coupling.py --peers FOLDER [--turns 15] [--threads 1]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from unet_peers import machine

from reverie.data.config import DataConfig
from reverie.data.dataset import open_data
from reverie.maths.transport import optimal_pairs

RESULTS = Path(__file__).parent / "results" / "w9_ot_coupling.json"
BATCH = 256


def batches() -> dict[str, tuple[Tensor, Tensor]]:
    """Rows and noise: points, digits, and colour pictures' worth of values."""
    generator = torch.Generator().manual_seed(0)
    digits = open_data(DataConfig(source="digits"))
    rows = torch.as_tensor(digits.train.take(np.arange(BATCH))[0]).float()
    ring = open_data(DataConfig(source="ring"))
    points = torch.as_tensor(ring.train.take(np.arange(BATCH))[0]).float()
    colour = rows.flatten(1).repeat(1, 4)[:, :3072]
    named = {"points, 2": points, "digits, 784": rows, "colour, 3072": colour}
    return {name: (x, torch.randn(x.shape, generator=generator)) for name, x in named.items()}


def milliseconds(step: Callable[[], object]) -> float:
    start = time.process_time()
    step()
    return 1e3 * (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", required=True, help="a folder with torchcfm and POT")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    sys.path.append(given.peers)
    from torchcfm.optimal_transport import OTPlanSampler

    torch.set_num_threads(given.threads)
    sampler = OTPlanSampler("exact")
    rows = {}
    for name, (x, eps) in batches().items():

        def ours(x: Tensor = x, eps: Tensor = eps) -> Tensor:
            return eps[optimal_pairs(x, eps)]

        def theirs(x: Tensor = x, eps: Tensor = eps) -> tuple[Tensor, Tensor]:
            pair: tuple[Tensor, Tensor] = sampler.sample_plan(x, eps)
            return pair

        plan = torch.as_tensor(sampler.get_map(x, eps))
        cost = torch.cdist(x.flatten(1).double(), eps.flatten(1).double()).square()
        best = float((plan * cost).sum())
        found = float((x.double() - ours().double()).flatten(1).square().sum(1).mean())
        turns = [(milliseconds(ours), milliseconds(theirs)) for _ in range(given.turns + 2)][2:]
        our_time, their_time = (statistics.median(times) for times in zip(*turns, strict=True))
        rows[name] = {
            "reverie_ms": round(our_time, 2),
            "torchcfm_ms": round(their_time, 2),
            "times_as_fast": round(their_time / our_time, 2),
            "reverie_mean_squared_distance": found,
            "torchcfm_mean_squared_distance": best,
        }
        print(name, rows[name])
    peers = {"torchcfm": version("torchcfm"), "POT": version("POT")}
    result = {"machine": machine(), "batch": BATCH, "peers": peers, "rows": rows}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
