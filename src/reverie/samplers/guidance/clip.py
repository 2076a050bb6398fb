"""Clipping: estimates of x_0 are kept within [-1, 1], where images are.

References:
    | Denoising Diffusion Probabilistic Models (Ho, Jain and Abbeel, 2020), the published code (clip_denoised)
    | https://arxiv.org/abs/2006.11239
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Posterior
from reverie.maths.posteriors import moved
from reverie.samplers.guidance.wrapper import Wrapper


@dataclass(frozen=True)
class Clip(Wrapper):
    """Clips a denoiser's estimates.

    Arguments:
        model: a denoiser of images, perhaps wrapped in guidance.
    """

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Posterior:
        posterior = self.model.denoise(x_t, t, condition)
        return moved(posterior, posterior.mean.clamp(-1, 1))
