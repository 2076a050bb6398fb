r"""Paths from data to noise: the coefficients of ``x_t = alpha_t x_0 + sigma_t eps``, t = 0 data, t = 1 noise.

A path is a value object: ``alpha_t, sigma_t = path(t)``. Any path is a straight one in other coordinates,

.. math:: z = \frac{x_t}{\alpha_t + \sigma_t}, \quad r = \frac{\sigma_t}{\alpha_t + \sigma_t}
    \quad\Rightarrow\quad z = (1 - r) x_0 + r \epsilon

which is where the solvers step: no derivative of the path is needed, and both ends are finite.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


def per_row(a: Tensor, x: Tensor) -> Tensor:
    """A value for each row, ``[B]``, shaped to multiply rows ``x`` of any shape ``[B, ...]``."""
    return a.reshape(-1, *[1] * (x.ndim - 1))


@dataclass(frozen=True)
class Straight:
    r"""Creates the straight path of flow matching and rectified flow.

    .. math:: \alpha_t = 1 - t, \quad \sigma_t = t

    References:
        | Flow Straight and Fast (Liu, Gong and Liu, 2022), Equation 1
        | https://arxiv.org/abs/2209.03003
    """

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t


@dataclass(frozen=True)
class LinearBetas:
    r"""Creates DDPM's path: T steps of noise whose variance rises linearly.

    .. math:: \bar\alpha_i = \prod_{j \le i} (1 - \beta_j), \quad
        \alpha_t = \sqrt{\bar\alpha_{tT}}, \quad \sigma_t = \sqrt{1 - \bar\alpha_{tT}}

    Step i is time t = i / T; between steps log alpha_bar is interpolated linearly. Step 0 is the data.

    Arguments:
        steps: T.
        first: beta_1, the variance of the first step's noise, in (0, 1).
        last: beta_T.

    References:
        | Denoising Diffusion Probabilistic Models (Ho, Jain and Abbeel, 2020), Equation 4 and Section 4
        | https://arxiv.org/abs/2006.11239
    """

    steps: int = 1000
    first: float = 1e-4
    last: float = 0.02

    @cached_property
    def betas(self) -> Tensor:
        """beta_1 … beta_T, float64 ``[T]``."""
        return torch.linspace(self.first, self.last, self.steps, dtype=torch.float64)

    @cached_property
    def log_alpha_bars(self) -> Tensor:
        """log alpha_bar_0 … log alpha_bar_T, float64 ``[T + 1]``."""
        return torch.cat([torch.zeros(1, dtype=torch.float64), torch.log1p(-self.betas).cumsum(0)])

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        table = self.log_alpha_bars.to(t.device, t.dtype)
        place = t * self.steps
        below = place.floor().clamp(0, self.steps - 1)
        log_alpha_bar = torch.lerp(table[below.long()], table[below.long() + 1], place - below)
        # 1 - alpha_bar is 1e-4 after one step: expm1 keeps all its digits. abs, since minus 0 has no logarithm.
        return torch.exp(log_alpha_bar / 2), torch.sqrt(torch.expm1(log_alpha_bar).abs())
