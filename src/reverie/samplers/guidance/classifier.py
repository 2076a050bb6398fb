r"""Classifier guidance: along the gradient of a classifier's log probability.

.. math:: \hat x_0' = \hat x_0 + w \frac{\sigma_t^2}{\alpha_t} \nabla_{x_t} \log p(c | x_t), \quad
    \text{that is} \quad \hat\epsilon' = \hat\epsilon - w \sigma_t \nabla_{x_t} \log p(c | x_t)

The classifier of the paper was trained on noisy images. One of clean images sees the estimate of x_0 instead, and its
gradient goes through the denoiser: then any classifier will do.

References:
    | Diffusion Models Beat GANs on Image Synthesis (Dhariwal and Nichol, 2021), Equation 14 and Algorithm 2
    | https://arxiv.org/abs/2105.05233
    | Universal Guidance for Diffusion Models (Bansal et al., 2023), Equation 6
    | https://arxiv.org/abs/2302.07121
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Posterior
from reverie.maths.posteriors import moved
from reverie.samplers.guidance.wrapper import Wrapper, bounded, weight, with_gradient

LogProbability = Callable[[Tensor, Tensor], Tensor]
"""log p(c | x) ``[B]`` of rows ``[B, ...]`` at times ``[B]``, differentiable; clean rows come with t = 0."""


@dataclass(frozen=True)
class Classifier(Wrapper):
    """Guides a denoiser by a classifier.

    Arguments:
        model: a denoiser.
        log_probability: of the class that is wanted.
        scale: w; 1 is Bayes' rule for a classifier that is right.
        clean: whether the classifier knows clean rows only.
    """

    log_probability: LogProbability
    scale: float
    clean: bool = False

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Posterior:
        def value(x_t: Tensor, x_0: Tensor) -> Tensor:
            return self.log_probability(x_0, t.new_zeros(len(t))) if self.clean else self.log_probability(x_t, t)

        plain, slope = with_gradient(self.model, x_t, t, condition, value)
        guided = plain.mean + self.scale * weight(self.path, t, x_t) * slope
        return moved(plain, bounded(guided, plain.mean, f"scale = {self.scale:g}", t))
