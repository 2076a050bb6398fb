"""What is done to an image before it is packed: crop to a square, resize, grey or colour."""

from __future__ import annotations

import numpy as np
from PIL import Image

from reverie.core.strict import Strict

AUTO_LIMIT = 64  # pixels: what a laptop trains in minutes; more only where it is asked for


class Transform(Strict):
    """All that packed pixels depend on beside their source.

    Arguments:
        size: height and width when packed.
        channels: 1 or 3.
        background: the colour under transparent pixels.
        draft: JPEG decoding at a reduced scale.
        binarize: ``once`` or ``none``.
    """

    size: int
    channels: int
    background: str = "white"
    draft: bool = False
    binarize: str = "none"


def pick_size(shortest: np.ndarray, same: bool) -> tuple[int, str]:
    """The size that ``auto`` comes to, and why.

    Arguments:
        shortest: the shorter side of each image, in pixels.
        same: whether all images are squares of one size.
    """
    typical = int(np.quantile(shortest, 0.1))
    if same and typical <= AUTO_LIMIT and typical % 4 == 0:
        return typical, f"size: {typical}, as all images are"
    size = 8
    while size * 2 <= min(typical, AUTO_LIMIT):
        size *= 2
    sides = f"shorter sides {shortest.min()} to {shortest.max()}"
    capped = f"; auto stops at {AUTO_LIMIT}, ask for more with data.size=" if typical >= 2 * AUTO_LIMIT else ""
    return size, f"size: {size} ({sides}{capped})"


def fit(image: Image.Image, size: int) -> Image.Image:
    """The largest middle square of an image, at ``size``; untouched where it has that size already."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    if side == size:  # whole pixels: nothing is resampled
        left, top = int(left), int(top)
        return image if image.size == (size, size) else image.crop((left, top, left + size, top + size))
    box = (left, top, left + side, top + side)
    if side < size:
        return image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    # A box filter first takes large images down to 3 times the size: 2.5 times as fast, the same to the eye.
    return image.resize((size, size), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


def to_array(image: Image.Image) -> np.ndarray:
    """A grey or RGB image as bytes ``[C, H, W]``."""
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def transform_rows(rows: np.ndarray, transform: Transform) -> np.ndarray:
    """Plain bytes ``[N, C, H, W]`` after the transform, ``[N, channels, size, size]``."""
    count, channels, height, width = rows.shape
    if (height, width) == (transform.size, transform.size) and channels == transform.channels:
        return rows
    out = np.empty((count, transform.channels, transform.size, transform.size), dtype=np.uint8)
    for i, row in enumerate(rows):
        image = Image.fromarray(row[0] if channels == 1 else np.ascontiguousarray(row.transpose(1, 2, 0)))
        image = image.convert("L" if transform.channels == 1 else "RGB")
        out[i] = to_array(fit(image, transform.size))
    return out
