r"""DDIM: from x_t to x_s along the predicted clean row and noise, deterministic at eta = 0.

.. math:: x_s = \alpha_s \hat x_0 + \sqrt{\sigma_s^2 - \eta^2 v} \, \hat\epsilon + \eta \sqrt{v} z

where v is the variance of q(x_s | x_t, x_0); at eta = 1 it samples DDPM's chain with that variance.
With eta = 0 it runs both ways: from data to noise it is DDIM inversion.

References:
    | Denoising Diffusion Implicit Models (Song, Meng and Ermon, 2021), Equations 12 and 16
    | https://arxiv.org/abs/2010.02502
"""

from __future__ import annotations

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises
from reverie.core.noise import Noise
from reverie.maths.paths import per_row
from reverie.maths.posteriors import backward
from reverie.samplers.solver import OPTIONS, Solver, State, estimate


@dataclass(frozen=True, config=OPTIONS)
class DDIM(Solver):
    """Order 1.

    Arguments:
        eta: the share of fresh noise, 0 to 1; above 0, towards data only.
    """

    eta: float = Field(default=0.0, ge=0, le=1)

    @property
    def both_ways(self) -> bool:
        return self.eta == 0

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
        x_0, eps = estimate(model, x_t, t, condition)
        alpha_s, sigma_s = (per_row(a, x_t) for a in model.path(s))
        if not self.eta:
            return alpha_s * x_0 + sigma_s * eps, state
        variance = self.eta**2 * per_row(backward(model.path, t, s).variance, x_t)
        z = noise.normal(*x_t.shape[1:]).to(x_t.dtype)
        kept = torch.sqrt((sigma_s**2 - variance).clamp_min(0))
        return alpha_s * x_0 + kept * eps + torch.sqrt(variance) * z, state
