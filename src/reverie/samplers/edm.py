r"""Stochastic EDM: before each step of Heun's some noise is added, which the step then removes with its own errors.

.. math:: \hat\sigma = (1 + \gamma) \sigma_t, \quad
    \hat x = x_t + S_\text{noise} \sqrt{\hat\sigma^2 - \sigma_t^2} \, z, \quad
    \gamma = \min(S_\text{churn} / N, \sqrt 2 - 1)

for sigma / alpha in place of sigma, and x / alpha in place of x, so that it is Karras et al.'s on any path. Adding the
noise leaves the distribution of x_t exact. The step is that of ``heun``, in the coordinates in which the path is
straight, where both ends are finite: Karras et al.'s, in sigma, differs in the third order only.

References:
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), Algorithm 2
    | https://arxiv.org/abs/2206.00364
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises
from reverie.core.noise import Noise
from reverie.maths.paths import per_row
from reverie.maths.times import log_snr, time_of
from reverie.samplers.heun import Heun
from reverie.samplers.solver import OPTIONS, Solver, State


@dataclass(frozen=True, config=OPTIONS)
class EDM(Solver):
    """Weak order 2, two evaluations a step (one in the last). Towards data only.

    Arguments:
        churn: S_churn, how much noise is added over all steps; 0 is Heun's method.
        low: S_min, the least sigma / alpha to which noise is added.
        high: S_max, the greatest; none is added above, nor beyond the path's own greatest.
        strength: S_noise, the standard deviation of that noise, 1 or a little more.
    """

    churn: float = Field(default=40.0, ge=0)
    low: float = Field(default=0.05, ge=0)
    high: float = Field(default=50.0, gt=0)
    strength: float = Field(default=1.003, gt=0)

    def init(self, x_t: Tensor, steps: int = 1) -> State:
        return (torch.tensor(steps),)

    def step(
        self,
        model: Denoises,
        x_t: Tensor,
        t: Tensor,
        s: Tensor,
        condition: Condition | None,
        noise: Noise,
        state: State,
    ) -> tuple[Tensor, State]:
        z = noise.normal(*x_t.shape[1:]).to(x_t.dtype)
        x_hat, t_hat = self._churned(model, x_t, t, self.strength * z, int(state[0]))
        x_s, _ = Heun().step(model, x_hat, t_hat, s, condition, noise, ())
        return x_s, state

    def _churned(self, model: Denoises, x_t: Tensor, t: Tensor, z: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """x_t with more noise, and the time that it is then of."""
        gamma = min(self.churn / steps, math.sqrt(2) - 1)
        before = log_snr(model.path, t)
        ratio = torch.exp(-before)
        churned = (ratio >= self.low) & (ratio <= self.high)
        t_hat = torch.where(churned, time_of(model.path, before - math.log1p(gamma)), t)
        (alpha_t, sigma_t), (alpha_hat, sigma_hat) = model.path(t), model.path(t_hat)
        kept = torch.where(churned, alpha_hat / alpha_t, 1)
        added = torch.where(churned, torch.sqrt((sigma_hat**2 - (kept * sigma_t) ** 2).clamp_min(0)), 0)
        return per_row(kept, x_t) * x_t + per_row(added, x_t) * z, t_hat
