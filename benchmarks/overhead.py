"""What the trainer costs beside forward, backward and the optimiser, at W1: a U-Net step at 32x32x3, batch 32.

    python benchmarks/overhead.py [--rounds 30]

A round of the loop (feed, keyed noise, guards, averaging, bookkeeping) against the bare step on the same batch, in
turn, at W1's sizes (those of each peer) and with the default network, which is smaller. Writes
benchmarks/results/overhead.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from unet_peers import OURS, machine

import reverie
from reverie.core.device import autocast
from reverie.core.noise import KeyedNoise
from reverie.core.player import Turn
from reverie.data import DataConfig, Feed, open_data
from reverie.training.config import TrainConfig
from reverie.training.loop import Loop
from reverie.training.ranks import Ranks

RESULT = Path(__file__).parent / "results" / "overhead.json"


def bare_step(loop: Loop, turn: Turn) -> None:
    """Forward, backward, optimiser: what nobody can do without."""
    seat = loop.seats[0]
    seat.optimizer.zero_grad(set_to_none=True)
    with autocast(loop.device, "auto"):
        loss = seat.player.loss(turn)
    torch.stack(list(loss.terms.values())).sum().backward()
    seat.optimizer.step()


def timed(work, *arguments) -> float:
    begun = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - begun


def measured(network: dict[str, Any] | None, rounds: int) -> dict[str, float]:
    """The shares of a step of ``flow-matching`` with this U-Net (None: its default)."""
    dataset = open_data(DataConfig(source="emoji"))
    model = reverie.create("flow-matching", dataset.space, changes={"model.network": network} if network else {})
    feed = Feed(dataset, 0, model.draws())
    loop = Loop(model, feed, TrainConfig(batch=32, steps=10**6), Ranks(torch.device("cpu")))
    batch = loop._batch(0, 0)
    turn = Turn(batch, KeyedNoise(0, batch.ids, "train/denoiser"), loop.progress)
    for _ in range(3):
        loop.play_round()
        bare_step(loop, turn)
    whole, bare, average = [], [], []
    for _ in range(rounds):
        bare.append(timed(bare_step, loop, turn))
        whole.append(timed(loop.play_round))
        average.append(timed(loop.average.update))
    return {
        "round_ms": 1e3 * statistics.median(whole),
        "bare_step_ms": 1e3 * statistics.median(bare),
        "overhead_share": statistics.median(a / b for a, b in zip(whole, bare, strict=True)) - 1.0,
        "averaging_share": statistics.median(average) / statistics.median(bare),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    networks = {name: {"name": "unet", **config.model_dump()} for name, config in OURS.items()}
    found: dict[str, Any] = {name: measured(network, rounds) for name, network in networks.items()}
    found["default"] = measured(None, rounds)
    imports = [
        float(subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    ]
    found |= {"import_reverie_s": statistics.median(imports), "rounds": rounds, **machine()}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


IMPORT = "import time; t = time.perf_counter(); import reverie; print(time.perf_counter() - t)"

if __name__ == "__main__":
    main()
