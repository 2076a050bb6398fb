r"""Annealed Langevin dynamics: at each level of noise, from the largest down, some steps of Langevin dynamics.

.. math:: x \leftarrow x + \tfrac{a_t}{2} \nabla \log p_t(x) + \sqrt{a_t} \, z, \quad
    \nabla \log p_t(x) = \frac{\alpha_t \hat x_0 - x}{\sigma_t^2}, \quad a_t = r \sigma_t^2

The paper's :math:`a_i = \epsilon \sigma_i^2 / \sigma_L^2` has :math:`r = \epsilon / \sigma_L^2`, in its experiments
0.2, and 100 steps at each of 10 levels. Rows then stand at the next level as they are, but for the signal's scale,
which changes on other paths than the paper's: :math:`x_s = (\alpha_s / \alpha_t) x_t`. The last step, to the data, is
the denoising that the second paper adds: :math:`E[x_0 | x_t]`.

References:
    | Generative Modeling by Estimating Gradients of the Data Distribution (Song and Ermon, 2019), Algorithm 1
    | https://arxiv.org/abs/1907.05600
    | Improved Techniques for Training Score-Based Generative Models (Song and Ermon, 2020), Section 4 and Appendix B
    | https://arxiv.org/abs/2006.09011
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
from reverie.samplers.ddim import DDIM
from reverie.samplers.solver import OPTIONS, Solver, State


@dataclass(frozen=True, config=OPTIONS)
class AnnealedLangevin(Solver):
    """Weak order 1 at the data, ``repeats`` evaluations a step (one more in the last). Towards data only.

    Arguments:
        repeats: T, the steps of Langevin dynamics at each level.
        rate: r, the length of such a step over the variance of the level's noise.
    """

    repeats: int = Field(default=5, ge=1)
    rate: float = Field(default=0.2, gt=0, le=2)

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
        (alpha_t, sigma_t), (alpha_s, sigma_s) = ([per_row(a, x_t) for a in model.path(time)] for time in (t, s))
        for _ in range(self.repeats):
            drift = alpha_t * model.denoise(x_t, t, condition).mean - x_t
            z = noise.normal(*x_t.shape[1:]).to(x_t.dtype)
            x_t = x_t + self.rate / 2 * drift + self.rate**0.5 * sigma_t * z
        # Where a path begins with noise alone, there is no signal to keep the scale of.
        x_s = torch.where(alpha_t > 0, alpha_s / alpha_t, sigma_s / sigma_t) * x_t
        if bool((s > 0).all()):
            return x_s, state
        x_0, _ = DDIM().step(model, x_t, t, s, condition, noise, ())
        return torch.where(per_row(s, x_t) > 0, x_s, x_0), state
