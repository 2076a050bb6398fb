"""Samples as files: one grid, arrays, or a folder of PNGs."""

from __future__ import annotations

import io
import math
from contextlib import suppress
from pathlib import Path

import numpy as np
from torch import Tensor

from reverie.core.errors import RequestError
from reverie.core.files import check_above, disk_error, write_atomically
from reverie.core.images import save_grid, to_bytes, to_pillow
from reverie.core.sampling import Samples, check_finite
from reverie.core.space import Space

IMAGES = {".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".npy", ".zip", ".pt", ".pdf", ".svg"}
"""Endings that people ask for and that are not written."""
LARGE = 4096
"""Pixels a side up to which a grid is enlarged."""


def check_target(out: Path, space: Space | None = None) -> None:
    """Says before any work whether samples can be written there.

    Arguments:
        out: a ``.png``, a ``.npz``, or a folder.
        space: what a sample is, where that is known.

    Raises:
        RequestError: the ending is of no kind that is written, or the folder holds something already: files of another
            request would pass for part of this one, and nothing of anybody's is deleted.
    """
    if out.suffix.lower() in IMAGES:
        raise RequestError(f"cannot write '{out.suffix}' files; use .png, .npz, or a folder")
    if not out.name:
        raise RequestError("the output is empty; name a .png, a .npz, or a folder")
    is_file = out.suffix.lower() in (".png", ".npz")
    if out.is_dir() if is_file else out.is_file():
        raise RequestError(f"{out} is a {'folder' if is_file else 'file'}; give another --out")
    if out.is_dir() and next(out.iterdir(), None):
        raise RequestError(f"{out} is not empty; name a new folder for the samples")
    if space is not None and len(space.shape) == 1 and out.suffix.lower() != ".npz":
        raise RequestError("these samples are points; write them to a .npz file")
    check_above(out)


def save_samples(samples: Samples, out: Path, columns: int | None = None) -> None:
    """Writes samples.

    Arguments:
        samples: from ``sample``.
        out: ``.png`` for one grid, on which small images are shown larger, ``.npz`` for the arrays ``images`` (uint8
            ``[B, H, W, C]``, or float32 points) and ``labels`` (int64, -1 without classes), anything else for a folder
            of PNGs.
        columns: of the grid; about as many as rows where None.

    Raises:
        RequestError: points cannot be written as PNG.
        ReverieError: samples are not finite; or the disk is full or refuses, and there is what there was before.
    """
    out = Path(out)
    check_target(out)
    check_finite(samples.x, "samples")
    points = samples.x.ndim == 2
    labels = np.full(len(samples.x), -1) if samples.labels is None else samples.labels.numpy()
    if out.suffix.lower() == ".npz":
        rows = samples.x.numpy() if points else to_bytes(samples.x).permute(0, 2, 3, 1).numpy()
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=rows, labels=labels)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, buffer.getvalue())
    elif points:
        raise RequestError("these samples are points; write them to a .npz file")
    elif out.suffix.lower() == ".png":
        columns = columns or math.ceil(math.sqrt(len(samples.x)))
        save_grid(samples.x, out, columns, _scale(samples.x, columns))
    else:
        _save_folder(samples, labels, out)


def _scale(x: Tensor, columns: int) -> int:
    """How many pixels wide a pixel of a grid is shown: as training and edit show it, or fewer on a large sheet."""
    height, width = x.shape[2:]
    longer = max(columns * width, math.ceil(len(x) / columns) * height)
    return max(1, min(64 // max(height, width) + 1, LARGE // longer))


def _save_folder(samples: Samples, labels: np.ndarray, out: Path) -> None:
    """Writes a PNG each; where that fails what was written goes again, so that the same request can be made again."""
    new, made = not out.exists(), [out]
    try:
        out.mkdir(parents=True, exist_ok=True)
        for i, (image, label) in enumerate(zip(to_bytes(samples.x), labels, strict=True)):
            made.append(out / (f"{i:06d}-{label}.png" if label >= 0 else f"{i:06d}.png"))
            to_pillow(image).save(made[-1], "PNG")
    except BaseException as error:  # of Ctrl-C, too
        for file in made[1:]:
            file.unlink(missing_ok=True)
        if new:
            with suppress(OSError):
                out.rmdir()
        if isinstance(error, OSError):
            raise disk_error(error, made[-1]) from error
        raise
