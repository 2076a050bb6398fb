r"""Moment matching posterior sampling: what an estimate of x_0 becomes by Bayes' rule once y = A x_0 + noise is seen.

Given x_t, x_0 is taken for Gaussian with the moments that the denoiser itself knows,

.. math:: p(x_0 | x_t) \approx N(\hat x_0, V), \quad
    V = \frac{\sigma_t^2}{\alpha_t} \frac{\partial \hat x_0}{\partial x_t} = Cov[x_0 | x_t]

so that

.. math:: E[x_0 | x_t, y] \approx \hat x_0 + V A^\top \big( \sigma_y^2 I + A V A^\top \big)^{-1} (y - A \hat x_0)

V is never formed: products with it are backward passes, and the system is solved by a few conjugate gradients. On
Gaussian data it is exact. With V replaced by a multiple of the identity it would be pseudo-inverse guidance (PiGDM).

References:
    | Learning Diffusion Priors from Observations by Expectation Maximization (Rozet et al., 2024), Section 4.2
    | https://arxiv.org/abs/2405.13712
    | Pseudoinverse-Guided Diffusion Models for Inverse Problems (Song et al., 2023), Equation 7
    | https://openreview.net/forum?id=9_gsMA8MRKQ
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Posterior
from reverie.maths.operators import Operator, conjugate_gradients
from reverie.maths.paths import per_row
from reverie.maths.posteriors import Dirac, LearnedStep
from reverie.samplers.guidance.wrapper import Wrapper, bounded, weight


@dataclass(frozen=True)
class MomentMatching(Wrapper):
    """Guides a denoiser to rows that look like y.

    Arguments:
        model: a denoiser.
        operator: A.
        y: what is seen, ``[B, ...]``.
        noise: sigma_y, the standard deviation of the noise in y; a little steadies the system where there is none.
        iterations: conjugate gradient steps, each a backward pass.
    """

    operator: Operator
    y: Tensor
    noise: float = 0.02
    iterations: int = 3

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Posterior:
        scale = weight(self.path, t, x_t)
        with torch.enable_grad():
            x_t = x_t.detach().requires_grad_()
            posterior = self.model.denoise(x_t, t, condition)
        x_0 = posterior.mean

        def spread(v: Tensor) -> Tensor:
            """V v: the Jacobian of a posterior mean is symmetric, so its transpose, which is cheaper, will do."""
            (pulled,) = torch.autograd.grad(x_0, x_t, v, retain_graph=True)
            return scale * pulled

        def system(w: Tensor) -> Tensor:
            return self.noise**2 * w + self.operator(spread(self.operator.adjoint(w)))

        residual = self.y - self.operator(x_0.detach())
        w = conjugate_gradients(system, residual, self.iterations)
        shift = spread(self.operator.adjoint(w))
        # Where V is a covariance, A takes the shift to less than the residual. A network's Jacobian may be none.
        reach = self.operator(shift).flatten(1).norm(dim=1)
        length = residual.flatten(1).norm(dim=1)
        shift = per_row((length / reach.clamp_min(torch.finfo(reach.dtype).tiny)).clamp_max(1), shift) * shift
        mean = bounded(x_0.detach() + shift, x_0, f"noise = {self.noise:g}", t)
        if isinstance(posterior, LearnedStep):  # y makes rows surer than that, if anything, and beta is more
            return LearnedStep(mean, posterior.step_variance.detach())
        return Dirac(mean)
