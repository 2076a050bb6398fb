r"""Predictor-corrector: a step of the reverse diffusion, then steps of Langevin dynamics at the noise it has reached.

.. math:: x \leftarrow x + \epsilon \nabla \log p_s(x) + \sqrt{2 \epsilon} \, z, \quad
    \nabla \log p_s(x) = \frac{\alpha_s \hat x_0 - x}{\sigma_s^2}, \quad \epsilon = 2 (r \sigma_s)^2

The paper takes :math:`\epsilon = 2 (r \lVert z \rVert / \lVert \nabla \log p_s \rVert)^2` with norms averaged over
the batch; here both are what they are of noise, :math:`\sqrt D` and :math:`\sqrt D / \sigma_s`, so that no row depends
on another. As there, no noise is added in the last step, which has no corrector.
Such dynamics overdo the variance by :math:`\epsilon / 2`, which vanishes with sigma.

References:
    | Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), Algorithms 1 to 5
    | https://arxiv.org/abs/2011.13456
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises
from reverie.core.noise import Noise
from reverie.maths.paths import per_row
from reverie.samplers.ddpm import Ancestral
from reverie.samplers.solver import OPTIONS, Solver, State


@dataclass(frozen=True, config=OPTIONS)
class PredictorCorrector(Solver):
    """Weak order 1 at the data, 1 + ``corrections`` evaluations a step (one in the last). Towards data only.

    Arguments:
        predictor: ``reverse``, reverse diffusion, whose noise is that of the forward step, or ``ancestral``.
        corrections: steps of Langevin dynamics after each.
        snr: r, the ratio of signal to noise of such a step.
    """

    predictor: Literal["reverse", "ancestral"] = "reverse"
    corrections: int = Field(default=1, ge=0)
    snr: float = Field(default=0.16, gt=0, le=0.5)

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
        predictor = Ancestral("posterior" if self.predictor == "ancestral" else "beta")
        x_s, _ = predictor.step(model, x_t, t, s, condition, noise, ())
        alpha_s, sigma_s = (per_row(a, x_t) for a in model.path(s))
        if not bool((s > 0).any()):
            return x_s, state
        rate = 2 * self.snr**2  # epsilon / sigma_s^2
        for _ in range(self.corrections):
            drift = alpha_s * model.denoise(x_s, s, condition).mean - x_s
            z = noise.normal(*x_t.shape[1:]).to(x_t.dtype)
            corrected = x_s + rate * drift + (2 * rate) ** 0.5 * sigma_s * z
            x_s = torch.where(per_row(s, x_t) > 0, corrected, x_s)
        return x_s, state
