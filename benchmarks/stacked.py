"""The headline: how many of 1,000 modes of stacked digits a GAN draws, and how evenly.

    python benchmarks/stacked.py r3gan                  # a row of the table; the same command goes on where it was
    python benchmarks/stacked.py r3gan gan-r1-r2 rpgan-r1 gan-r1 --images 2000000 --parts 10

Modes are counted on 25,600 samples by the judge, a channel at a time; the divergence is from the data's own shares of
modes; the row ``real`` is of 25,600 stacks of MNIST's test digits. After each part of the training the samples are
judged, so the table has its curve over images and hours of one core. Writes ``benchmarks/results/stacked.json`` and, to
docs/pictures, ``stacked.png`` (the curves) and a grid of each row.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from judge import MNIST, Judge, load_judge, look, rows_of
from torch import Tensor

import reverie
from reverie.core.images import save_grid
from reverie.data import DataConfig, open_data
from reverie.evaluation.modes import divergence_of_shares

ROOT = Path(__file__).resolve().parents[1]
RESULTS, RUNS, PICTURES = ROOT / "benchmarks/results/stacked.json", ROOT / "runs/stacked", ROOT / "docs/pictures"
SAMPLES = 25_600
GAMMA = 0.5
PAPER = 0.0781  # Table 1 of the R3GAN paper
# Networks for a CPU: plain strided convolutions, no normalisation in the critic, as its penalties ask.
NETWORKS = (
    "model.generator={image: {name: dcgan, width: 48}, points: mlp}",
    "model.discriminator={image: {name: dcgan, width: 48, norm: none}, points: mlp}",
    "model.generator_optimizer={name: adam, lr: 5.0e-4, betas: [0.0, 0.99]}",
    "model.discriminator_optimizer={name: adam, lr: 5.0e-4, betas: [0.0, 0.99]}",
    "train.batch=64",
    "train.average.half_life=20000",
    "data.condition=none",
)
ROWS = {
    "r3gan": ("relativistic", ("r1", "r2")),
    "gan-r1-r2": ("non-saturating", ("r1", "r2")),
    "rpgan-r1": ("relativistic", ("r1",)),
    "gan-r1": ("non-saturating", ("r1",)),
}


def counted(judge: Judge, x: Tensor, shares: Tensor) -> dict[str, float]:
    """Modes among images ``[N, 3, 28, 28]``, and the divergence of their shares from the data's."""
    guesses = look(judge, x.flatten(0, 1)[:, None])[1].argmax(1).view(-1, 3)
    counts = (guesses * torch.tensor([100, 10, 1])).sum(1).bincount(minlength=1000)
    return {"modes": int((counts > 0).sum()), "divergence": divergence_of_shares(counts, shares).value}


def data_shares() -> Tensor:
    """How likely each mode is: three digits of the training file, drawn apart."""
    labels = rows_of(open_data(DataConfig(source=str(MNIST))).train)[1]
    p = labels.bincount(minlength=10).double() / len(labels)
    return torch.einsum("a,b,c->abc", p, p, p).flatten()


def real(judge: Judge, shares: Tensor) -> dict[str, float]:
    rows = open_data(DataConfig(source=str(MNIST))).held_out
    x = rows_of(rows)[0]
    places = torch.from_numpy(np.random.Generator(np.random.Philox(0)).integers(len(x), size=(SAMPLES, 3)))
    return counted(judge, x[places, 0], shares)


def run(name: str, images: int, parts: int, judge: Judge, shares: Tensor) -> None:
    """Trains part after part, and judges after each; parts that are in the results are not judged again."""
    objective, penalties = ROWS[name]
    changes = (
        f"model.objective={objective}",
        f"model.penalties={{{', '.join(f'{p}: {GAMMA}' for p in penalties)}}}",
        *NETWORKS,
    )
    before = kept().get(name, {})
    curve = before["curve"] if before.get("changes") == list(changes) else []
    for part in range(1, parts + 1):
        seen = images * part // parts
        if curve and seen <= curve[-1]["images"]:
            continue
        begun = cpu_seconds()
        trained = reverie.train(
            "r3gan", f"stacked-digits:{MNIST}", out=RUNS / name, images=seen, changes=changes, quiet=True
        )
        spent = cpu_seconds() - begun + (curve[-1]["cpu_hours"] * 3600 if curve else 0.0)
        x = reverie.sample(reverie.load(trained), SAMPLES, seed=0).x
        curve.append({"images": seen, "cpu_hours": spent / 3600, **counted(judge, x, shares)})
        print(name, curve[-1], flush=True)
        save_grid(x[:64], PICTURES / f"stacked-{name}.png", 8, 2)
        keep(name, {"changes": list(changes), "curve": curve, **curve[-1]})


def cpu_seconds() -> float:
    """The processor's time of this process, over all its cores."""
    return time.process_time()


def kept() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    return found


def keep(name: str, row: dict[str, Any]) -> None:
    results = kept() | {name: row}
    results["machine"] = f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def draw() -> None:
    """Modes and divergence over the hours of one core."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    results = kept()
    figure, (modes, divergence) = plt.subplots(1, 2, figsize=(7.2, 2.8), layout="constrained")
    for name in (name for name in ROWS if name in results):
        curve = results[name]["curve"]
        hours = [point["cpu_hours"] for point in curve]
        modes.plot(hours, [point["modes"] for point in curve], "o-", ms=3, label=name)
        divergence.plot(hours, [point["divergence"] for point in curve], "o-", ms=3, label=name)
    divergence.axhline(results["real"]["divergence"], color="grey", ls=":", label="real digits")
    divergence.axhline(PAPER, color="grey", ls="--", label="R3GAN's paper")
    modes.set_title("modes reached, of 1,000", fontsize=9)
    divergence.set(yscale="log")
    divergence.set_title("divergence of their shares, nats", fontsize=9)
    for axis in (modes, divergence):
        axis.set_xlabel("hours of one core")
    divergence.legend(fontsize=7)
    figure.savefig(PICTURES / "stacked.png", dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", choices=list(ROWS))
    parser.add_argument("--images", type=int, default=2_000_000, help="to train on, of each row")
    parser.add_argument("--parts", type=int, default=10)
    asked = parser.parse_args()
    (judge, accuracy), shares = load_judge(), data_shares()
    keep("real", {**real(judge, shares), "judge": accuracy})
    for name in asked.rows:
        run(name, asked.images, asked.parts, judge, shares)
        draw()


if __name__ == "__main__":
    main()
