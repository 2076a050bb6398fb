"""The film-strip: the same noise, sampled as training went, put side by side."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from reverie.core.run import Run
from reverie.core.space import Space

FRAMES = 12
TILES = 6
GAP = 2  # between the tiles of a training grid, in the tiles' own pixels


class Strip(NamedTuple):
    """A picture with a column for each moment, and the images seen at each."""

    picture: Image.Image
    images: list[int]


def filmstrip(run: Run, space: Space) -> Strip | None:
    """Puts the run's sample grids together; None where there are none.

    Images: a row for each of the first samples of the grids, a column for each moment. Points: a column of densities.
    """
    files = [file for file in sorted(run.samples.glob("*.png")) if re.fullmatch(r"\d+", file.stem)]
    if not files:
        return None
    chosen = [files[i] for i in sorted({round(i) for i in np.linspace(0, len(files) - 1, FRAMES)})]
    columns = [_column(file, space) for file in chosen]
    height, width = columns[0].shape[:2]
    sheet = np.full((height, len(columns) * (width + GAP) - GAP, 3), 255, dtype=np.uint8)
    for i, column in enumerate(columns):
        sheet[:, i * (width + GAP) : i * (width + GAP) + width] = column[:height, :width]
    return Strip(Image.fromarray(sheet), [int(file.stem) for file in chosen])


def _column(file: Path, space: Space) -> np.ndarray:
    """One moment: the grid's first tiles below each other at their own size, ``[H, W, 3]``."""
    with Image.open(file) as opened:
        grid = opened.convert("RGB")
    if not space.is_image:
        return np.asarray(grid.resize((128, 128), Image.Resampling.BOX))
    height, width = space.shape[1:]
    scale = max(1, 64 // max(height, width) + 1)  # as training writes them
    pixels = np.asarray(grid)[scale // 2 :: scale, scale // 2 :: scale]
    across, down = (pixels.shape[1] + GAP) // (width + GAP), (pixels.shape[0] + GAP) // (height + GAP)
    tiles = []
    for i in range(min(TILES, across * down)):
        top, left = (i // across) * (height + GAP), (i % across) * (width + GAP)
        tiles += [pixels[top : top + height, left : left + width], np.full((GAP, width, 3), 255, dtype=np.uint8)]
    return np.concatenate(tiles[:-1])
