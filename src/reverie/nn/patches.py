"""Images as squares of pixels: as channels of a smaller image, and as the elements of a sequence."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from reverie.core.errors import RequestError


def check_side(side: int, height: int, width: int) -> None:
    """Refuses squares that an image is not a single one of.

    Raises:
        RequestError: side is more than the image's shorter one.
    """
    if side > min(height, width):
        raise RequestError(f"patch = {side} is more than the {height} × {width} pixels of an image; set a smaller one")


def squares(x: Tensor, side: int) -> Tensor:
    """An image ``[B, C, H, W]`` with squares of pixels as channels, ``[B, C side², ⌈H / side⌉, ⌈W / side⌉]``.

    Sides that do not divide are filled up with zeros.
    """
    beyond = [-length % side for length in x.shape[2:]]
    x = F.pad(x, (0, beyond[1], 0, beyond[0])) if any(beyond) else x
    return F.pixel_unshuffle(x, side)


def patches(x: Tensor, side: int) -> Tensor:
    """An image as its squares from left to right and down, ``[B, L, C side²]``."""
    return squares(x, side).flatten(2).transpose(1, 2)


def from_patches(h: Tensor, side: int, height: int, width: int) -> Tensor:
    """The inverse of ``patches``: ``[B, C, height, width]``."""
    rows = -(-height // side)
    x = F.pixel_shuffle(h.transpose(1, 2).unflatten(2, (rows, -1)), side)
    return x[:, :, :height, :width]
