r"""Heun's method on the probability flow: a step of Euler's, then again with the mean of both ends' slopes.

.. math:: z' = z_t + (r_s - r_t) u(z_t), \quad z_s = z_t + (r_s - r_t) \tfrac12 \big( u(z_t) + u(z') \big), \quad
    u = E[\epsilon - x_0 | x]

in the coordinates in which the path is straight (see ``euler``). A step that ends at the data stays Euler's,
since a network knows no slope there.

References:
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), Algorithm 1
    | https://arxiv.org/abs/2206.00364
"""

from __future__ import annotations

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises
from reverie.core.noise import Noise
from reverie.maths.paths import per_row
from reverie.samplers.solver import OPTIONS, Solver, State, estimate


@dataclass(frozen=True, config=OPTIONS)
class Heun(Solver):
    """Order 2, two evaluations a step (one in the last), either way."""

    @property
    def both_ways(self) -> bool:
        return True

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
        alpha_t, sigma_t = (per_row(a, x_t) for a in model.path(t))
        alpha_s, sigma_s = (per_row(a, x_t) for a in model.path(s))
        scale_t, scale_s = alpha_t + sigma_t, alpha_s + sigma_s
        length = sigma_s / scale_s - sigma_t / scale_t
        x_0, eps = estimate(model, x_t, t, condition)
        slope = eps - x_0
        x_s = scale_s * (x_t / scale_t + length * slope)
        if not bool((s > 0).any()):
            return x_s, state
        x_0, eps = estimate(model, x_s, s, condition)
        mean = torch.where(per_row(s, x_t) > 0, (slope + eps - x_0) / 2, slope)
        return scale_s * (x_t / scale_t + length * mean), state
