"""The pictures of an evaluation, one pixel for each of the image's: the page enlarges them."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from reverie.core.images import save_grid
from reverie.core.run import Run
from reverie.data.dataset import Dataset, Rows
from reverie.training.grids import save_density

GRID = 64  # samples shown, uncurated: the first ones


def samples(run: Run, x: Tensor, dataset: Dataset) -> None:
    """Writes the first samples as ``samples.png``; points as a density, beside that of the data."""
    if x.ndim == 4:
        save_grid(x[:GRID], run.report / "samples.png", columns=16)
        return
    save_density(x, run.report / "samples.png")
    rows = np.arange(min(len(x), len(dataset.train)))
    save_density(dataset.train.take(rows)[0], run.report / "data.png")


def neighbours(run: Run, x: Tensor, train: Rows, index: Tensor, name: str = "neighbours") -> None:
    """Writes samples side by side, and below each its nearest training rows, nearest first.

    Arguments:
        run: the folder.
        x: samples ``[B, C, H, W]``.
        train: the training rows.
        index: int64 ``[B, k]``, places among them.
        name: of the two files, before ``-samples.png`` and ``-training.png``.
    """
    save_grid(x, run.report / f"{name}-samples.png", columns=len(x))
    near, _ = train.take(index.T.reshape(-1).numpy())  # row r holds everyone's r-th neighbour
    save_grid(near, run.report / f"{name}-training.png", columns=len(x))
