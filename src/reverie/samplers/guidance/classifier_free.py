r"""Classifier-free guidance: away from what the model makes of any row, towards what it makes of this condition.

.. math:: \hat x_0 = \hat x_0(\varnothing) + w \, \big( \hat x_0(c) - \hat x_0(\varnothing) \big)

Guidance w is 1 for the conditional model itself, 0 for the unconditional one, above 1 for more of the condition.
(The paper's w is ours less 1. The same formula holds for eps and velocities, which are linear in x_0.)
In training, some labels are dropped, so that one network is both models.

References:
    | Classifier-Free Diffusion Guidance (Ho and Salimans, 2022), Algorithm 1 and Equation 6
    | https://arxiv.org/abs/2207.12598
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Posterior
from reverie.core.noise import Noise
from reverie.maths.posteriors import Dirac, LearnedStep
from reverie.samplers.guidance.wrapper import Wrapper, bounded


def drop_labels(condition: Condition, noise: Noise, share: float) -> Condition:
    """The condition with a share of its labels dropped (-1), each by its own row's noise."""
    if condition.label is None or not share:
        return condition
    return replace(condition, label=torch.where(noise.uniform() < share, -1, condition.label))


@dataclass(frozen=True)
class ClassifierFree(Wrapper):
    """Guides a denoiser.

    Arguments:
        model: trained with dropped labels.
        guidance: w, at least 0.
    """

    guidance: float

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Posterior:
        """One pass for guidance 0 and 1, and without labels; else one over both branches, of twice the rows."""
        if condition is None or condition.label is None or self.guidance == 1:
            return self.model.denoise(x_t, t, condition)
        if self.guidance == 0:
            return self.model.denoise(x_t, t, condition.without_label())
        both = condition.join(condition.without_label())
        posterior = self.model.denoise(torch.cat([x_t, x_t]), torch.cat([t, t]), both)
        given, free = posterior.mean.chunk(2)
        mean = bounded(free + self.guidance * (given - free), given, f"guidance = {self.guidance:g}", t)
        if isinstance(posterior, LearnedStep):  # the variance is the conditional model's, unguided
            return LearnedStep(mean, posterior.step_variance.chunk(2)[0])
        return Dirac(mean)
