r"""Clipping: estimates of x_0 are kept where rows are, images within [-1, 1].

The mean of rows lies between the ends of their values, so no right estimate is changed. Wrong ones are where little is
left of x_0 in x_t: from the noise that a network predicts, :math:`\hat x_0 = (x_t - \sigma_t \hat\epsilon) / \alpha_t`
has its error over :math:`\alpha_t`, which is 1/20,000 at the end of improved DDPM's path.

References:
    | Denoising Diffusion Probabilistic Models (Ho, Jain and Abbeel, 2020), the published code (clip_denoised)
    | https://arxiv.org/abs/2006.11239
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises, Posterior
from reverie.core.space import Space
from reverie.maths.posteriors import moved
from reverie.samplers.guidance.wrapper import Wrapper


@dataclass(frozen=True)
class Clip(Wrapper):
    """Clips a denoiser's estimates.

    Arguments:
        model: a denoiser, perhaps wrapped in guidance.
        low: the least value of rows.
        high: the greatest.
    """

    low: float = -1.0
    high: float = 1.0

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Posterior:
        posterior = self.model.denoise(x_t, t, condition)
        return moved(posterior, posterior.mean.clamp(self.low, self.high))


def clipped(model: Denoises, space: Space) -> Denoises:
    """A denoiser whose estimates stay where rows of that space are; itself where that is not known."""
    return Clip(model, *space.range) if space.range else model
