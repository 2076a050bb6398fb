r"""Differentiable augmentation of all that a discriminator sees, real and generated rows alike.

A discriminator with few images learns them by heart. Moving, covering and recolouring what it sees makes more of them,
and since generated rows are treated alike, with gradients going through, the generator learns the images as they were:
an augmentation that is left out of some rows leaks into none of the samples.

References:
    | Differentiable Augmentation for Data-Efficient GAN Training (Zhao, Liu, Lin, Zhu and Han, 2020), Section 3
    | https://arxiv.org/abs/2006.10738
    | Training Generative Adversarial Networks with Limited Data (Karras et al., 2020), Sections 2 and 3
    | https://arxiv.org/abs/2006.06676
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.core.noise import Noise

SHIFT = 1 / 8  # of a side, the most that an image is moved
HOLE = 1 / 2  # of a side, the side of the square that is covered


def colour(x: Tensor, noise: Noise) -> Tensor:
    """Brightness moved by up to half, saturation scaled by up to two, contrast by a half to one and a half."""
    brightness, saturation, contrast = noise.uniform(3, 1, 1, 1).unbind(1)
    x = x + (brightness - 0.5)
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (2.0 * saturation) + grey
    middle = x.mean((1, 2, 3), keepdim=True)
    return (x - middle) * (contrast + 0.5) + middle


def translation(x: Tensor, noise: Noise) -> Tensor:
    """Moved by up to an eighth each way; what comes in is zero."""
    height, width = x.shape[2:]
    reach = [max(1, round(side * SHIFT)) for side in (height, width)]
    down, right = (noise.fork(axis).integers(2 * r + 1, 1) for axis, r in zip(("down", "right"), reach, strict=True))
    padded = F.pad(x, (reach[1], reach[1], reach[0], reach[0]))
    rows = (torch.arange(height, device=x.device) + down)[:, None, :, None]
    columns = (torch.arange(width, device=x.device) + right)[:, None, None, :]
    places = torch.arange(len(x), device=x.device)[:, None, None, None]
    channels = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    return padded[places, channels, rows, columns]


def cutout(x: Tensor, noise: Noise) -> Tensor:
    """A square of half a side set to zero, around a uniform place."""
    height, width = x.shape[2:]
    sides = [max(1, round(side * HOLE)) for side in (height, width)]
    inside = []
    for axis, side, hole in zip(("down", "right"), (height, width), sides, strict=True):
        start = noise.fork(axis).integers(side + (1 - hole % 2), 1) - hole // 2
        places = torch.arange(side, device=x.device)
        inside.append((places >= start) & (places < start + hole))
    covered = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return x.masked_fill(covered, 0.0)


POLICIES: Mapping[str, Callable[[Tensor, Noise], Tensor]] = {
    "colour": colour,
    "translation": translation,
    "cutout": cutout,
}


def augmented(x: Tensor, noise: Noise, policies: Sequence[str], probability: Tensor | float = 1.0) -> Tensor:
    """Applies each policy to each row with a probability, independently.

    Arguments:
        x: images ``[B, C, H, W]``.
        noise: of these rows.
        policies: names from ``POLICIES``, applied in this order.
        probability: within [0, 1].
    """
    for name in policies:
        draws = noise.fork(name)
        chosen = draws.fork("chosen").uniform(1, 1, 1) < probability
        x = torch.where(chosen, POLICIES[name](x, draws), x)
    return x


def adapted(probability: Tensor, told_apart: Tensor, target: float, images: int, ramp: float) -> Tensor:
    r"""The probability after a step: up where the discriminator is surer than it should be, down where it is less.

    .. math:: r = 2\, P[D(x) > D(G(z))] - 1, \qquad p \leftarrow p + \mathrm{sign}(r - r^*)\, B / B_{ramp}

    The paper's r is the mean sign of D(x); its value here is that of pairs, which also holds for games that leave the
    logit's level open.

    Arguments:
        probability: p, a scalar.
        told_apart: the share of pairs of a real and a generated row whose real one has the larger logit.
        target: r*.
        images: B, rows in the step.
        ramp: images over which p could go from 0 to 1.
    """
    surer = torch.sign(2.0 * told_apart - 1.0 - target)
    return (probability + surer * (images / ramp)).clamp(0.0, 1.0)
