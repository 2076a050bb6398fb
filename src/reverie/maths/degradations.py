r"""What is seen of a row that is to be restored: an image that a denoiser is conditioned on, made from the row itself.

Each is called with rows x and noise and returns what is seen, at the size of the rows: ``[B, maps, H, W]``, for points
``[B, maps]``. ``keep`` puts back into restored rows what was seen for certain.

References:
    | Image Super-Resolution via Iterative Refinement (Saharia et al., 2021), Section 2.3
    | https://arxiv.org/abs/2104.07636
    | Palette: Image-to-Image Diffusion Models (Saharia et al., 2022), Section 3 and Appendix B
    | https://arxiv.org/abs/2111.05826
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.core.errors import RequestError
from reverie.core.noise import Noise
from reverie.core.space import Space
from reverie.maths.operators import Grey


class Degradation(Protocol):
    """Makes what is seen of a row."""

    def maps(self, space: Space) -> int:
        """Channels of what is seen of a row of ``space``.

        Raises:
            RequestError: there is nothing to restore in such rows.
        """

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        """Returns what is seen of rows x ``[B, *space.shape]``."""

    def keep(self, x: Tensor, seen: Tensor) -> Tensor:
        """Returns restored rows x with what was seen for certain put back."""


@dataclass(frozen=True)
class SuperResolution:
    """Creates the view at a lower resolution: bicubic reduction, and bicubic enlargement to the old size.

    Of points their mean is seen.

    Arguments:
        factor: how many times smaller the sides are.
    """

    factor: int = 4

    def maps(self, space: Space) -> int:
        if space.is_image and any(side % self.factor for side in space.shape[1:]):
            raise RequestError(f"factor = {self.factor} does not divide images of {space.shape[1]} × {space.shape[2]}")
        return space.shape[0] if space.is_image else 1

    def small(self, x: Tensor) -> Tensor:
        """The image at the lower resolution, ``[B, C, H / factor, W / factor]``."""
        return resized(x, x.shape[2] // self.factor, x.shape[3] // self.factor)

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        return resized(self.small(x), *x.shape[2:]) if x.ndim == 4 else x.mean(1, keepdim=True)

    def keep(self, x: Tensor, seen: Tensor) -> Tensor:
        return x


@dataclass(frozen=True)
class Inpainting:
    """Creates the view with a hole: the row, 0 in the hole, and a plane that is 1 where it is known and 0 elsewhere.

    A hole is a box at a random place, its sides drawn independently. Of points each value is known or not by a coin.

    Arguments:
        smallest, largest: sides of the hole as shares of the image's.
    """

    smallest: float = 0.25
    largest: float = 0.75

    def maps(self, space: Space) -> int:
        return space.shape[0] + 1 if space.is_image else 2 * space.size

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        known = self.known(x, noise)
        return torch.cat([torch.where(known, x, torch.zeros_like(x)), known.to(x.dtype)], dim=1)

    def known(self, x: Tensor, noise: Noise) -> Tensor:
        """Where rows are known, bool ``[B, 1, H, W]``, or ``[B, D]``."""
        if x.ndim == 2:
            return noise.uniform(x.shape[1]) < 0.5
        u = noise.uniform(2, 2)  # [B, side, (length, start)]
        inside = []
        for axis, side in enumerate(x.shape[2:]):
            length = ((self.smallest + (self.largest - self.smallest) * u[:, axis, 0]) * side).round().clamp(1, side)
            start = (u[:, axis, 1] * (side - length + 1)).floor()
            place = torch.arange(side, device=x.device)
            inside.append((place >= start[:, None]) & (place < (start + length)[:, None]))  # [B, side]
        return ~(inside[0][:, :, None] & inside[1][:, None])[:, None]

    def keep(self, x: Tensor, seen: Tensor) -> Tensor:
        values, known = (seen[:, : x.shape[1]], seen[:, x.shape[1] :])
        return torch.where(known > 0, values, x)


@dataclass(frozen=True)
class Colourisation:
    """Creates the view without colours. Of points their mean is seen."""

    def maps(self, space: Space) -> int:
        if space.is_image and space.shape[0] != 3:
            raise RequestError("colourisation needs colours, and these images are grey")
        return 1

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        return Grey()(x) if x.ndim == 4 else x.mean(1, keepdim=True)

    def keep(self, x: Tensor, seen: Tensor) -> Tensor:
        return x


def resized(x: Tensor, height: int, width: int) -> Tensor:
    """Bicubic interpolation, smoothed first where it reduces, within [-1, 1]."""
    return F.interpolate(x.float(), (height, width), mode="bicubic", antialias=True).clamp(-1, 1)
