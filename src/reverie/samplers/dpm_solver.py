r"""DPM-Solver++ (2M): from x_t to x_s by the estimate of x_0 in the middle of the step, extrapolated from the last two.

.. math:: x_s = \frac{\sigma_s}{\sigma_t} e^{-\eta h} x_t + \alpha_s \big( 1 - e^{-(1 + \eta) h} \big) D
        + \sigma_s \sqrt{1 - e^{-2 \eta h}} \, z, \quad
    D = \hat x_0(t) + \frac{h}{2 h'} \big( \hat x_0(t) - \hat x_0(t') \big)

with h and h' this step's and the last one's gain of :math:`\lambda = \log(\alpha / \sigma)`. At eta = 0 it is the
paper's Algorithm 2; at eta = 1 it solves the diffusion's reverse equation: SDE-DPM-Solver++ (2M), Equation 18.
The first step, and one that ends at sigma = 0, where h is infinite, take the estimate as it is: DDIM's step.

References:
    | DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models (Lu et al., 2022)
    | https://arxiv.org/abs/2211.01095
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
from reverie.maths.times import log_snr
from reverie.samplers.solver import OPTIONS, Solver, State


@dataclass(frozen=True, config=OPTIONS)
class DPMSolver(Solver):
    """Order 2, weak order 2 with noise, one evaluation a step. Towards data only.

    Arguments:
        eta: the share of fresh noise: 0 is deterministic, 1 the reverse equation.
    """

    eta: float = Field(default=0.0, ge=0, le=1)

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
        x_0 = model.denoise(x_t, t, condition).mean
        h = log_snr(model.path, s) - log_snr(model.path, t)
        middle = x_0
        if state:
            last_x_0, last_h = state
            # 0 too where both are infinite, in two steps from alpha = 0 to sigma = 0.
            weight = torch.where(torch.isfinite(h), h / (2 * last_h), 0)
            middle = x_0 + per_row(weight, x_t) * (x_0 - last_x_0)
        (_, sigma_t), (alpha_s, sigma_s) = model.path(t), model.path(s)
        # e^{-h} = 0 where h is infinite; 0 * inf has no value, so that eta = 0 is its own case.
        extra = self.eta * h if self.eta else torch.zeros_like(h)
        x_s = per_row(sigma_s / sigma_t * torch.exp(-extra), x_t) * x_t
        x_s = x_s - per_row(alpha_s * torch.expm1(-h - extra), x_t) * middle
        if self.eta:
            z = noise.normal(*x_t.shape[1:]).to(x_t.dtype)
            x_s = x_s + per_row(sigma_s * torch.sqrt(-torch.expm1(-2 * extra)), x_t) * z
        return x_s, (x_0, h)
