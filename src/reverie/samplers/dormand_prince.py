r"""The Dormand-Prince method 5(4): each row takes steps as long as its own estimate of the error allows.

In the coordinates in which the path is straight (see ``euler``), :math:`dz / dr = E[\epsilon - x_0 | x]`, a step of
order 5 is compared with one of order 4 from the same evaluations:

.. math:: e = \sqrt{ \operatorname{mean} \Big( \frac{z - z^*}{a + \rho \max(|z_t|, |z|)} \Big)^2 } \le 1, \quad
    h \leftarrow h \, \operatorname{clip}(0.9 \, e^{-1/5}, 0.2, 5)

Rows go on side by side, each at its own time and with its own step, so that a row's steps, and its sample, do not
depend on the batch: up to rounding, and where that makes a step pass or fail, up to the error that the tolerance
leaves. Between r = ``end`` and the data, where a network knows no slope, one step of Euler's is taken.

References:
    | A Family of Embedded Runge-Kutta Formulae (Dormand and Prince, 1980)
    | https://doi.org/10.1016/0771-050X(80)90013-3
    | Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), Section 4.3
    | https://arxiv.org/abs/2011.13456
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises
from reverie.core.errors import RequestError
from reverie.core.noise import Noise
from reverie.maths.paths import per_row
from reverie.maths.times import time_of
from reverie.samplers.solver import OPTIONS, Solver, State, estimate

NODES = (0.2, 0.3, 0.8, 8 / 9, 1.0, 1.0)
STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
"""The last is the step itself: its slope is the next step's first."""
DIFFERENCE = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
"""Of the weights of order 5 and of order 4."""
FIRST = 0.05
"""The first step, in r."""

Slope = Callable[[Tensor, Tensor], Tensor]
"""dz / dr at z ``[B, ...]`` and r ``[B]``."""


@dataclass(frozen=True, config=OPTIONS)
class DormandPrince(Solver):
    """Order 5, six evaluations a try, as many as the tolerance needs: take it from 1 to 0 in one step. Either way.

    Arguments:
        relative: rho, the error allowed in a step, relative to the values.
        absolute: a, the same in the units of the values.
        end: where the last step begins, as sigma / (alpha + sigma).
        most: tries in one step before it gives up.
    """

    relative: float = Field(default=1e-4, gt=0)
    absolute: float = Field(default=1e-4, gt=0)
    end: float = Field(default=1e-3, gt=0, lt=1)
    most: int = Field(default=1000, ge=1)

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
        def slope(z: Tensor, r: Tensor) -> Tensor:
            time = time_of(model.path, torch.log1p(-r) - torch.log(r))
            alpha, sigma = model.path(time)
            x_0, eps = estimate(model, per_row(alpha + sigma, z) * z, time, condition)
            return eps - x_0

        (alpha_t, sigma_t), (alpha_s, sigma_s) = model.path(t), model.path(s)
        r_t, r_s = sigma_t / (alpha_t + sigma_t), sigma_s / (alpha_s + sigma_s)
        z = x_t / per_row(alpha_t + sigma_t, x_t)
        start, stop = r_t.clamp_min(self.end), r_s.clamp_min(self.end)
        z = _euler(slope, z, r_t, start)
        z = self._controlled(slope, z, start, stop)
        z = _euler(slope, z, stop, r_s)
        return per_row(alpha_s + sigma_s, z) * z, state

    def _controlled(self, slope: Slope, z: Tensor, r: Tensor, stop: Tensor) -> Tensor:
        """z at ``stop``, from z at r, each ``[B]``."""
        length = torch.full_like(r, FIRST)
        first = slope(z, r)
        for _ in range(self.most):
            left = stop - r
            going = left != 0
            if not bool(going.any()):
                return z
            h = left.sign() * torch.minimum(length, left.abs())  # 0 for rows that are there
            if bool((going & (r + h == r)).any()):
                break
            slopes = [first]
            for node, weights in zip(NODES, STAGES, strict=True):
                moved = z + per_row(h, z) * _weighted(weights, slopes)
                slopes.append(slope(moved, r + node * h))
            error = (per_row(h, z) * _weighted(DIFFERENCE, slopes)).abs()
            scale = self.absolute + self.relative * torch.maximum(z.abs(), moved.abs())
            e = (error / scale).flatten(1).square().mean(1).sqrt().nan_to_num(torch.inf)
            taken = e <= 1
            z, first = (torch.where(per_row(taken, z), new, old) for new, old in ((moved, z), (slopes[-1], first)))
            # A step that the end cut short says little of how long the next may be.
            grown = h.abs() * (0.9 * e.clamp_min(1e-12) ** -0.2).clamp(0.2, 5.0)
            r = torch.where(taken, torch.where(h == left, stop, r + h), r)
            length = torch.where(taken & (h == left), length, grown)
        raise RequestError(
            f"dormand-prince is not there after {self.most} tries: the estimates are not finite, or not as smooth as "
            "its tolerance asks; raise solver.relative and solver.absolute"
        )


def _euler(slope: Slope, z: Tensor, r: Tensor, stop: Tensor) -> Tensor:
    return z if bool((r == stop).all()) else z + per_row(stop - r, z) * slope(z, r)


def _weighted(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    total = weights[0] * slopes[0]
    for weight, value in zip(weights[1:], slopes[1:], strict=True):
        total = total + weight * value if weight else total
    return total
