"""Sample grids as training goes, always of the same noise, so that they form a film-strip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from reverie.core.batch import Asks
from reverie.core.images import save_grid, save_png
from reverie.core.model import Model
from reverie.core.sampling import sample
from reverie.data.maps import beside


def layout(classes: int, count: int) -> tuple[int, Tensor | None]:
    """Columns and labels of a grid of about ``count`` samples: a column a class where there are 2 to 16."""
    if 2 <= classes <= 16:
        rows = max(1, count // classes)
        return classes, torch.arange(classes).repeat(rows)
    columns = max(1, round(count**0.5))
    return columns, torch.arange(count) % classes if classes else None


def write_grid(
    model: Model, file: Path, count: int, seed: int, asks: Asks | None = None
) -> tuple[Tensor, Tensor | None]:
    """Draws samples with fixed noise and writes them as one PNG, images as a grid, points as a density.

    Arguments:
        model: with the weights that sampling uses.
        file: the PNG.
        count: samples, about.
        seed: of the noise.
        asks: what they are drawn for, where the model draws from maps (``Dataset.asks``): each map stands left of its
            sample.

    Returns:
        The samples, and the labels that they were drawn for.
    """
    columns, labels = layout(model.space.classes, count)
    scale = max(1, 64 // max(model.space.shape[1:]) + 1) if model.space.is_image else 1
    if asks is not None and model.space.is_image:
        x, labels = sample(model, count, seed, condition=asks)
        maps = asks(torch.arange(count)).image
        assert maps is not None
        save_grid(beside(maps, x), file, 2 * round((count / 2) ** 0.5), scale)
    elif model.space.is_image:
        x = sample(model, count if labels is None else len(labels), seed, labels=labels).x
        save_grid(x, file, columns, scale)
    else:
        x = sample(model, 4096 if asks is None else count, seed, condition=asks).x  # pictures cost more than noise
        labels = None
        save_density(x, file)
    return x, labels


def save_density(points: Tensor, file: Path, bins: int = 192) -> None:
    """Writes the histogram of the first two coordinates of points as a PNG, dark where there are many."""
    extent = [[-4.0, 4.0], [-4.0, 4.0]]
    x, y = points[:, 0].double().numpy(), points[:, min(1, points.shape[1] - 1)].double().numpy()
    counts, _, _ = np.histogram2d(-y, x, bins=bins, range=extent)
    shade = 255 - np.clip(np.sqrt(counts / max(counts.max() * 0.5, 1.0)) * 255, 0, 255)
    save_png(Image.fromarray(shade.astype(np.uint8)).resize((2 * bins, 2 * bins), Image.Resampling.NEAREST), file)
