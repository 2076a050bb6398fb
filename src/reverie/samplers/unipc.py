r"""UniPC: a predictor of several past estimates of x_0, then a corrector that reuses the next evaluation.

With :math:`h = \lambda_s - \lambda_t`, :math:`\lambda = \log(\alpha / \sigma)`, the estimates :math:`D_0` at t,
:math:`D_m` at times before t (and, in the corrector, at s) and :math:`r_m = (\lambda_m - \lambda_t) / h`,

.. math:: x_s = \frac{\sigma_s}{\sigma_t} x_t + \alpha_s (1 - e^{-h}) D, \quad
    D = D_0 + \sum_m \rho_m \frac{D_m - D_0}{r_m}, \quad
    \sum_m r_m^{k-1} \rho_m = k! \, \frac{\varphi_{k+1}(-h)}{\varphi_1(-h)}

This is the paper's :math:`B(h) = e^h - 1` in the estimates of x_0; its other choice, B(h) = h, has no limit where
alpha or sigma is 0. With one past estimate the predictor has rho = 1/2, as published. The corrector of the step to t
needs the estimate at t, which the step from t computes anyway: so each step first corrects x_t, then predicts x_s.
A step that ends at sigma = 0 is DDIM's, as is the first predictor.

References:
    | UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models (Zhao et al., 2023)
    | https://arxiv.org/abs/2302.04867
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
from reverie.maths.times import log_snr
from reverie.samplers.solver import OPTIONS, Solver, State

FAR = 20.0
"""Bounds log-SNRs in quotients of differences: past estimates at alpha = 0 weigh almost nothing in polynomials."""


@dataclass(frozen=True, config=OPTIONS)
class UniPC(Solver):
    """Order ``order`` + 1, one evaluation a step. Towards data only.

    Arguments:
        order: of the predictor, 1 to 3: p of UniPC-p. The corrector makes one more of it.
    """

    order: int = Field(default=2, ge=1, le=3)

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
        times: list[Tensor] = []
        estimates: list[Tensor] = []
        if state:
            x_u, stacked_times, stacked = state  # x at the time before, and the estimates there and earlier
            times, estimates = list(stacked_times), list(stacked)
            x_t = self._advance(model, x_u, times, estimates, t, x_0)
        times, estimates = [t, *times], [x_0, *estimates]
        x_s = self._advance(model, x_t, times[: self.order], estimates[: self.order], s, None)
        return x_s, (x_t, torch.stack(times[: self.order]), torch.stack(estimates[: self.order]))

    def _advance(
        self, model: Denoises, x_t: Tensor, times: list[Tensor], estimates: list[Tensor], s: Tensor, at_s: Tensor | None
    ) -> Tensor:
        """x_s from x_t: predicted from the estimates at times, the latest first, or corrected by the one at s."""
        t, x_0 = times[0], estimates[0]
        before = [log_snr(model.path, time) for time in times]
        after = log_snr(model.path, s)
        bounded = [value.clamp(-FAR, FAR) for value in before]
        h = after.clamp(-FAR, FAR) - bounded[0]
        places = [(value - bounded[0]) / h for value in bounded[1:]]
        others = estimates[1:]
        if at_s is not None:
            places, others = [*places, torch.ones_like(h)], [*others, at_s]
        middle = x_0
        for place, rho, other in zip(places, _weights(places, h), others, strict=True):
            # Towards sigma = 0 nothing is extrapolated.
            weight = torch.where(torch.isfinite(after), rho / place, 0)
            middle = middle + per_row(weight, x_t) * (other - x_0)
        (_, sigma_t), (alpha_s, sigma_s) = model.path(t), model.path(s)
        gain = -torch.expm1(before[0] - after)
        return per_row(sigma_s / sigma_t, x_t) * x_t + per_row(alpha_s * gain, x_t) * middle


def _weights(places: list[Tensor], h: Tensor) -> list[Tensor]:
    """rho, ``[B]`` for each place."""
    if len(places) < 2:
        return [torch.full_like(h, 0.5) for _ in places]
    count = len(places)
    phi = _phi(-h, count + 1)
    powers = torch.stack([torch.stack(places, -1) ** k for k in range(count)], -2)  # [B, k, m]
    wanted = torch.stack([math.factorial(k) * phi[k + 1] / phi[1] for k in range(1, count + 1)], -1)
    return list(torch.linalg.solve(powers, wanted).unbind(-1))


def _phi(z: Tensor, most: int) -> list[Tensor]:
    r"""phi_0 … phi_most, :math:`\varphi_k(z) = \sum_j z^j / (j + k)!`, by the series near 0, elsewhere by recursion."""
    found = [torch.exp(z)]
    small = z.abs() < 1
    near = torch.where(small, z, 0)
    away = torch.where(small, 1, z)
    for k in range(1, most + 1):
        series = sum((near**j / math.factorial(j + k) for j in range(1, 16)), torch.full_like(z, 1 / math.factorial(k)))
        recursion = (found[-1] - 1 / math.factorial(k - 1)) / away
        found.append(torch.where(small, series, recursion))
    return found
