"""Clipping: estimates of x_0 are kept within [-1, 1], where images are.

References:
    | Denoising Diffusion Probabilistic Models (Ho, Jain and Abbeel, 2020), the published code (clip_denoised)
    | https://arxiv.org/abs/2006.11239
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises, Path, Posterior
from reverie.core.space import Space
from reverie.maths.posteriors import Dirac, LearnedStep


@dataclass(frozen=True)
class Clip:
    """Clips a denoiser's estimates.

    Arguments:
        model: a denoiser of images, perhaps wrapped in guidance.
    """

    model: Denoises

    @property
    def path(self) -> Path:
        return self.model.path

    @property
    def space(self) -> Space:
        return self.model.space

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Posterior:
        posterior = self.model.denoise(x_t, t, condition)
        mean = posterior.mean.clamp(-1, 1)
        return replace(posterior, mean=mean) if isinstance(posterior, LearnedStep) else Dirac(mean)

    def enter(self, x: Tensor) -> Tensor:
        return self.model.enter(x)

    def leave(self, z: Tensor) -> Tensor:
        return self.model.leave(z)
