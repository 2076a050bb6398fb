r"""DDPM's ancestral sampler, over any path and in any number of steps.

.. math:: x_s = E_q[x_s | x_t, \hat x_0] + \sqrt{\beta_{t|s}} z, \quad z \sim N(0, I)

with no noise in the last step. Over all T steps of DDPM's path it is the paper's Algorithm 2 with
:math:`\sigma_t^2 = \beta_t`; over fewer, beta is the variance of x_t given x_s.

References:
    | Denoising Diffusion Probabilistic Models (Ho, Jain and Abbeel, 2020), Algorithm 2 and Section 3.2
    | https://arxiv.org/abs/2006.11239
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises
from reverie.core.noise import Noise
from reverie.maths.paths import per_row
from reverie.maths.posteriors import backward
from reverie.samplers.solver import Solver, State


@dataclass(frozen=True)
class Ancestral(Solver):
    """Samples x_s from the model's own chain; towards data only.

    Arguments:
        variance: ``beta``, right for data of unit variance, or ``posterior``, right for data of one point:
            the two extremes of Section 3.2.
    """

    variance: Literal["beta", "posterior"] = "beta"

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
        a, b, posterior, fresh = (per_row(c, x_t) for c in backward(model.path, t, s))
        variance = fresh if self.variance == "beta" else posterior
        mean = a * x_t + b * model.denoise(x_t, t, condition).mean
        z = noise.normal(*x_t.shape[1:]).to(x_t.dtype)
        return mean + torch.where(per_row(s, x_t) > 0, torch.sqrt(variance), 0) * z, state
