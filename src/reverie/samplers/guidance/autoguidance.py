r"""Autoguidance: away from what a worse version of the same model makes of x_t.

.. math:: \hat x_0 = \hat x_0^\text{bad} + w \, \big( \hat x_0^\text{good} - \hat x_0^\text{bad} \big)

The worse one is smaller or less trained, on the same data and condition: what it gets wrong, the better one gets
wrong a little, and the difference points away from it, without the loss of variety of classifier-free guidance.

References:
    | Guiding a Diffusion Model with a Bad Version of Itself (Karras et al., 2024), Equation 3
    | https://arxiv.org/abs/2406.02507
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises, Posterior
from reverie.core.errors import RequestError
from reverie.maths.posteriors import moved
from reverie.samplers.guidance.wrapper import Wrapper, bounded


@dataclass(frozen=True)
class Autoguidance(Wrapper):
    """Guides a denoiser by a worse one.

    Arguments:
        model: the better one.
        bad: the worse one, of the same rows over the same path.
        guidance: w; 1 is the better one itself.

    Raises:
        RequestError: rows, classes or paths differ.
    """

    bad: Denoises
    guidance: float

    def __post_init__(self) -> None:
        if self.model.space.shape != self.bad.space.shape:
            shapes = [list(model.space.shape) for model in (self.model, self.bad)]
            raise RequestError(
                f"autoguidance needs two models of the same rows; these have {shapes[0]} and {shapes[1]}"
            )
        if self.bad.space.classes not in (0, self.model.space.classes):
            known, other = self.model.space.classes, self.bad.space.classes
            raise RequestError(f"autoguidance needs two models of the same classes; these have {known} and {other}")
        t = torch.linspace(0.1, 0.9, 5)
        if not all(torch.allclose(a, b) for a, b in zip(self.model.path(t), self.bad.path(t), strict=True)):
            raise RequestError("autoguidance needs two models over the same path from data to noise; these differ")

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Posterior:
        good = self.model.denoise(x_t, t, condition)
        if self.guidance == 1:
            return good
        bad = self.bad.denoise(x_t, t, condition).mean
        guided = bad + self.guidance * (good.mean - bad)
        return moved(good, bounded(guided, good.mean, f"guidance = {self.guidance:g}", t))
