r"""DDPM's ancestral sampler, over any path and in any number of steps.

.. math:: x_s = E_q[x_s | x_t, \hat x_0] + \sqrt{\hat\beta} z, \quad z \sim N(0, I)

with no noise in the last step. Over all T steps of DDPM's path it is the paper's Algorithm 2 with
:math:`\sigma_t^2 = \beta_t`. On any path, and over fewer steps, with :math:`\beta_{t|s}` the variance of x_t given x_s,

.. math:: \hat\beta = \beta_{t|s} (\alpha_s^2 + \sigma_s^2) / (\alpha_t^2 + \sigma_t^2)

is the variance of x_s given x_t where data are of unit variance; on DDPM's path, which keeps it, it is beta itself.
Where the model has learned the variance of its steps, that one is taken.

References:
    | Denoising Diffusion Probabilistic Models (Ho, Jain and Abbeel, 2020), Algorithm 2 and Section 3.2
    | https://arxiv.org/abs/2006.11239
    | Improved Denoising Diffusion Probabilistic Models (Nichol and Dhariwal, 2021), Section 3.1
    | https://arxiv.org/abs/2102.09672
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises
from reverie.core.noise import Noise
from reverie.maths.paths import per_row
from reverie.maths.posteriors import LearnedStep, backward
from reverie.samplers.solver import OPTIONS, Solver, State


@dataclass(frozen=True, config=OPTIONS)
class Ancestral(Solver):
    """Samples x_s from the model's own chain; weak order 1, towards data only.

    Arguments:
        variance: ``beta``, right for data of unit variance, or ``posterior``, right for data of one point:
            the two extremes of Section 3.2; ``learned``: the model's own, ``beta`` where it has none.
    """

    variance: Literal["learned", "beta", "posterior"] = "learned"

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
        chain = backward(model.path, t, s)
        posterior = model.denoise(x_t, t, condition)
        if self.variance == "learned" and isinstance(posterior, LearnedStep):
            variance = chain.between(posterior.step_variance)
        else:
            alpha_t, sigma_t = model.path(t)
            alpha_s, sigma_s = model.path(s)
            beta = chain.fresh * (alpha_s**2 + sigma_s**2) / (alpha_t**2 + sigma_t**2)
            variance = per_row(chain.variance if self.variance == "posterior" else beta, x_t)
        mean = per_row(chain.a, x_t) * x_t + per_row(chain.b, x_t) * posterior.mean
        z = noise.normal(*x_t.shape[1:]).to(x_t.dtype)
        return mean + torch.where(per_row(s, x_t) > 0, torch.sqrt(variance), 0) * z, state
