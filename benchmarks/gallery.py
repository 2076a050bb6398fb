"""Every recipe of a family, trained alike and shown as it comes: one picture for the README.

    python benchmarks/gallery.py gan [--data digits | ring] [--time 1m] [--only NAME ...]
    python benchmarks/gallery.py diffusion

A row each recipe: on images the first ten samples of seed 0, labels 0 to 9 in turn where it takes labels, beside their
maps where it draws from maps; on points the density. Recipes that need a trained run take flow-matching's. Trainings
are kept in runs/gallery and go on where they were. Writes ``docs/pictures/gallery-<family>.png``, or with another
``--data`` ``runs/gallery/<family>-<data>.png``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import torch

import reverie
from reverie.core import catalog
from reverie.core.capabilities import Observes
from reverie.core.errors import RequestError
from reverie.core.images import to_bytes
from reverie.core.model import Model
from reverie.core.run import Run
from reverie.data import DataConfig, open_data
from reverie.data.maps import beside
from reverie.training.grids import write_grid

matplotlib.use("agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
RUNS, PICTURES = ROOT / "runs" / "gallery", ROOT / "docs" / "pictures"
SHOWN = 10


def trained(entry: catalog.Entry, data: str, time: str) -> Run:
    teacher = RUNS / f"{data}-flow-matching"
    if entry.needs and not teacher.is_dir():
        reverie.train("flow-matching", data, out=teacher, time=time, quiet=True)
    changes = [*(f"{part}=run:{teacher}" for part in entry.needs), "train.grids=1"]
    return reverie.train(entry.name, data, out=RUNS / f"{data}-{entry.name}", time=time, changes=changes, quiet=True)


def row(run: Run, model: Model) -> np.ndarray:
    """Samples side by side, or the density of points: bytes ``[H, W]`` or ``[H, W, 3]``."""
    if not model.space.is_image:
        file = run.folder / "gallery.png"
        write_grid(model, file, SHOWN, 0)
        return (255 * plt.imread(file)).astype(np.uint8)
    dataset = open_data(DataConfig.read(run.recipe.data, "data"))
    asks = dataset.asks(model.space, model.view(Observes))
    labels = torch.arange(SHOWN) % model.space.classes if model.space.classes else None
    x = reverie.sample(model, SHOWN, seed=0, labels=labels, condition=asks).x
    if asks is not None:
        maps = asks(torch.arange(SHOWN)).image
        assert maps is not None
        x = beside(maps, x)[:SHOWN]
    tiles = to_bytes(x).permute(0, 2, 3, 1).numpy()
    tiles = np.pad(tiles, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
    return np.concatenate(list(tiles), axis=1).squeeze()


def draw(rows: dict[str, np.ndarray], file: Path) -> None:
    """Rows of images under each other in three columns, each beside its name; densities side by side."""
    first = next(iter(rows.values()))
    wide = first.shape[1] > first.shape[0]
    columns, width, height = (3, 5.2, 3.6 * first.shape[0] / first.shape[1] + 0.04) if wide else (8, 1.2, 1.3)
    lines = -(-len(rows) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(width * columns, height * lines), squeeze=False)
    gap = 0.45 if wide else 0.02
    left = 0.12 if wide else 0.005
    figure.subplots_adjust(left=left, right=0.995, top=0.995 if wide else 0.95, bottom=0.005, wspace=gap, hspace=0.05)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, picture) in zip(axes.T.flat, rows.items(), strict=False):
        axis.imshow(picture, cmap="gray", interpolation="nearest")
        x, y, side = (-0.02, 0.5, "right") if wide else (0.5, 0.95, "center")
        axis.text(x, y, name, transform=axis.transAxes, ha=side, va="center", fontsize=7)
    figure.savefig(file, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="+", choices=sorted({entry.family for entry in catalog.entries()}))
    parser.add_argument("--data", default="digits")
    parser.add_argument("--time", default="1m")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    asked = parser.parse_args()
    RUNS.mkdir(parents=True, exist_ok=True)
    rows = {}
    for entry in sorted(catalog.entries(), key=lambda entry: entry.name):
        if entry.family not in asked.families or (asked.only and entry.name not in asked.only):
            continue
        try:
            run = trained(entry, asked.data, asked.time)
        except RequestError as error:  # made for other data
            print(f"{entry.name}: {error}", flush=True)
            continue
        model = reverie.load(run)
        if model.space.picture:  # tags of pictures are not to be looked at
            continue
        rows[entry.name] = row(run, model)
        print(entry.name, flush=True)
    name = "-".join(asked.families)
    file = PICTURES / f"gallery-{name}.png" if asked.data == "digits" else RUNS / f"{name}-{asked.data}.png"
    draw(rows, file)


if __name__ == "__main__":
    main()
