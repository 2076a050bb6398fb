r"""How far a flow's paths are from straight lines between their ends.

.. math:: S(Z) = \int_0^1 E \big\lVert (Z_1 - Z_0) - \dot Z_t \big\rVert^2 dt

0 is straight: one step of Euler's then does as well as many.

References:
    | Flow Straight and Fast (Liu, Gong and Liu, 2022), Section 2.2
    | https://arxiv.org/abs/2209.03003
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises
from reverie.core.noise import KeyedNoise
from reverie.maths.times import time_grid
from reverie.samplers.conversion import straightened
from reverie.samplers.heun import Heun
from reverie.samplers.integrate import Film, integrate


def straightness(model: Denoises, z: Tensor, steps: int = 20, condition: Condition | None = None) -> Tensor:
    r"""S of the paths that start at noise z ``[B, ...]``, averaged over the values of a row, ``[B]``.

    Arguments:
        model: on any path; in straight coordinates, so that only its own bends count.
        z: standard normal.
        steps: of Heun's method along each path, at times :math:`(k / \text{steps})^2`: where rows of a small variance
            v end, paths turn at :math:`t \sim \sqrt v`. A path's slope on a step is what it moved by over how long.
        condition: what rows are conditioned on.
    """
    unused, film = KeyedNoise(0, torch.arange(len(z), device=z.device), "unused"), Film()
    times = [t**2 for t in time_grid(steps)]
    integrate(straightened(model), Heun(), z, times, unused, condition, film)
    points = [z, *(frame.x_t for frame in film.frames)]
    chord = z - points[-1]
    bends = torch.zeros(len(z), dtype=z.dtype, device=z.device)
    for (x, y), (t, s) in zip(pairwise(points), pairwise(times), strict=True):
        bends += (t - s) * (chord - (x - y) / (t - s)).flatten(1).square().mean(1)
    return bends
