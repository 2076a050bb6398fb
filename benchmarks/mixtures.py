"""Mode collapse on mixtures of Gaussians: the plain GAN and its remedies on the ring of 8 and the grid of 25.

    python benchmarks/mixtures.py [--data ring grid] [--only NAME ...] [--time 3m]

A sample is good within three sigma of a mode. Writes ``benchmarks/results/mixtures.json``; trainings are kept in
runs/mixtures, each with its film of the density over time in ``samples/``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

import reverie
from reverie.data.toys import TOYS
from reverie.evaluation.modes import good_and_reached

ROOT = Path(__file__).resolve().parents[1]
RESULTS, RUNS = ROOT / "benchmarks" / "results" / "mixtures.json", ROOT / "runs" / "mixtures"
SAMPLES = 10_000


def rates(lr: float) -> tuple[str, ...]:
    return tuple(
        f"model.{side}_optimizer.{key}"
        for side in ("generator", "discriminator")
        for key in (f"lr={lr}", "schedule=cosine")
    )


SYSTEMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "gan": ("gan", ()),
    "gan-saturating": ("gan", ("model.objective=saturating",)),
    "r3gan": ("r3gan", ()),
    "rpgan": ("rpgan", ()),
    "gan-r1": ("gan", ("model.penalties={r1: 0.1}", *rates(1e-3))),
    "wgan-gp": ("wgan-gp", rates(5e-4)),
    "dragan": ("dragan", rates(1e-3)),
    "sngan": ("sngan", rates(1e-3)),
    "lsgan": ("lsgan", rates(1e-3)),
    "minibatch": ("improved-gan", ()),
    "veegan": ("veegan", rates(1e-3)),
    "unrolled": ("unrolled", ("model.unroll_rate=0.02", *rates(1e-3))),
    "input-noise": ("gan", ("model.input_noise=0.2", *rates(1e-3))),
}


def run(system: str, data: str, time: str) -> dict[str, object]:
    recipe, changes = SYSTEMS[system]
    out = RUNS / f"{data}-{system}"
    asked = ("train.batch=256", "data.condition=none", *changes)
    trained = reverie.train(recipe, data, out=out, time=time, changes=asked, quiet=True)
    toy = TOYS[data]
    x = reverie.sample(reverie.load(trained), SAMPLES, seed=0, batch=SAMPLES).x
    found = good_and_reached(x, torch.from_numpy(toy.centres), toy.sigma)
    shares = torch.cdist(x.double(), torch.from_numpy(toy.centres)).argmin(1).bincount(minlength=len(toy.centres))
    images = max(event.get("images", 0) for event in trained.journal())
    return {
        "recipe": recipe,
        "changes": list(asked),
        "time": time,
        "threads": torch.get_num_threads(),
        "images": images,
        "modes": found.reached,
        "of": len(toy.centres),
        "good": found.good / SAMPLES,
        "smallest_share": float(shares.min()) / SAMPLES,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["ring", "grid"], choices=["ring", "grid"])
    parser.add_argument("--only", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS), metavar="NAME")
    parser.add_argument("--time", default="3m")
    asked = parser.parse_args()
    for data in asked.data:
        for system in asked.only:
            found = run(system, data, asked.time)
            results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
            results.setdefault(data, {})[system] = found
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
            print(data, system, {k: found[k] for k in ("images", "modes", "good", "smallest_share")}, flush=True)


if __name__ == "__main__":
    main()
