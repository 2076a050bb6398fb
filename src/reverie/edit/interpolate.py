"""Strips of images from one latent to another: smooth where a decoder has learned more than its training rows."""

from __future__ import annotations

import torch
from torch import Tensor

from reverie.core.errors import RequestError
from reverie.core.model import Model
from reverie.edit.between import PATHS
from reverie.edit.latents import Latents, decoded


def interpolate(model: Model, start: Latents, end: Latents, steps: int = 9, path: str = "spherical") -> Tensor:
    """Rows between pairs of latents.

    Arguments:
        model: one that decodes.
        start: ``[N, ...]`` each.
        end: ``[N, ...]`` each.
        steps: how many rows a pair, both ends included.
        path: ``spherical`` or ``linear``.

    Returns:
        ``[N * steps, *space.shape]``, a strip after the other. A discrete latent (a label) changes half-way.

    Raises:
        RequestError: fewer than two steps, or no such path.
    """
    if steps < 2 or path not in PATHS:
        raise RequestError(f"an interpolation needs at least 2 steps, and a path of {', '.join(PATHS)}")
    return decoded(model, strips(start, end, steps, path))


def strips(start: Latents, end: Latents, steps: int, path: str) -> Latents:
    """The latents of ``interpolate``."""
    t = torch.linspace(0.0, 1.0, steps, device=start[0].device)
    found = []
    for one, two in zip(start, end, strict=True):
        pairs = zip(one, two, strict=True)
        if one.is_floating_point():
            found.append(torch.cat([PATHS[path](a, b, t) for a, b in pairs]))
        else:
            late = (t >= 0.5).view(-1, *[1] * (one.ndim - 1))
            found.append(torch.cat([torch.where(late, b, a) for a, b in pairs]))
    return tuple(found)
