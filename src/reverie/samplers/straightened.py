r"""Any denoiser as one on the straight path: the same beliefs, asked for in other coordinates.

.. math:: z = \frac{x_t}{\alpha_t + \sigma_t} = (1 - r) x_0 + r \epsilon, \quad r = \frac{\sigma_t}{\alpha_t + \sigma_t}

A row z at r and x_t at t say the same of x_0, so the mean is the model's own. What learns from a model need then
know one path only.

References:
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), Section 2
    | https://arxiv.org/abs/2206.00364
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises, Path, Posterior
from reverie.core.space import Space
from reverie.maths.paths import Straight, per_row

HALVINGS = 30  # of [0, 1]: more than float32 tells apart


def time_of(path: Path, r: Tensor) -> Tensor:
    """The times t ``[B]`` at which sigma_t / (alpha_t + sigma_t) is r ``[B]``; 1 where the path never gets there."""
    if isinstance(path, Straight):
        return r
    low, high = torch.zeros_like(r), torch.ones_like(r)
    for _ in range(HALVINGS):
        t = (low + high) / 2
        alpha_t, sigma_t = path(t)
        before = sigma_t < r * (alpha_t + sigma_t)
        low, high = torch.where(before, t, low), torch.where(before, high, t)
    return high


@dataclass(frozen=True)
class Straightened:
    """Asks a denoiser on the straight path.

    Arguments:
        model: on any path, perhaps wrapped in guidance.
    """

    model: Denoises
    path: ClassVar[Path] = Straight()

    @property
    def space(self) -> Space:
        return self.model.space

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Posterior:
        own = time_of(self.model.path, t)
        alpha, sigma = self.model.path(own)
        return self.model.denoise(per_row(alpha + sigma, x_t) * x_t, own, condition)

    def enter(self, x: Tensor) -> Tensor:
        return self.model.enter(x)

    def leave(self, z: Tensor) -> Tensor:
        return self.model.leave(z)
