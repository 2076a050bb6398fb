r"""Euler's method on the probability flow, in the coordinates in which the path is straight.

.. math:: z = \frac{x_t}{\alpha_t + \sigma_t}, \quad r = \frac{\sigma_t}{\alpha_t + \sigma_t}, \quad
    \frac{dz}{dr} = E[\epsilon - x_0 | x_t]

On flow matching's path z is x_t and r is t: Euler's method as it is. On any other it takes DDIM's steps.

References:
    | Flow Matching for Generative Modeling (Lipman et al., 2023)
    | https://arxiv.org/abs/2210.02747
"""

from __future__ import annotations

from pydantic.dataclasses import dataclass
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises
from reverie.core.noise import Noise
from reverie.maths.paths import per_row
from reverie.samplers.solver import OPTIONS, Solver, State, estimate


@dataclass(frozen=True, config=OPTIONS)
class Euler(Solver):
    """Order 1, one evaluation a step, either way."""

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
        x_0, eps = estimate(model, x_t, t, condition)
        z_s = x_t / scale_t + (sigma_s / scale_s - sigma_t / scale_t) * (eps - x_0)
        return scale_s * z_s, state
