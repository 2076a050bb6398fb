r"""Ctrl-X: a result with the structure of one picture and the appearance of another, by features alone.

The two pictures are noised to x_t as they are, and run through the network beside the result. In some blocks the
structure's features f^s take the place of the result's; then the appearance's statistics f^a are carried over by
attention between places that look alike,

.. math:: A = \text{softmax}\big( \text{norm}(f)^\top \text{norm}(f^a) / \sqrt C \big), \quad M = A f^a, \quad
    S = \sqrt{A (f^a)^2 - M^2}, \quad f \leftarrow S \, \text{norm}(f) + M

It needs no gradients and no training.

References:
    | Ctrl-X: Controlling Structure and Appearance for Text-To-Image Generation Without Guidance
    | (Lin et al., 2024), Section 4, Equations 3 to 5
    | https://arxiv.org/abs/2406.07540
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Posterior, Steers
from reverie.maths.paths import per_row
from reverie.maths.posteriors import Dirac, LearnedStep
from reverie.samplers.guidance.wrapper import Wrapper, as_many


def normalised(f: Tensor) -> Tensor:
    """Features ``[B, C, places]`` with mean 0 and variance 1 over places in each channel."""
    return (f - f.mean(2, keepdim=True)) / f.std(2, correction=0, keepdim=True).clamp_min(1e-5)


def transferred(f: Tensor, like: Tensor) -> Tensor:
    """Features ``[B, C, places]`` with the statistics of those of another picture at the places that look alike."""
    own = normalised(f)
    alike = torch.softmax(own.transpose(1, 2) @ normalised(like) / f.shape[1] ** 0.5, dim=2)  # [B, places, places']
    mean = like @ alike.transpose(1, 2)
    variance = like.square() @ alike.transpose(1, 2) - mean.square()
    return variance.clamp_min(0).sqrt() * own + mean


@dataclass(frozen=True)
class CtrlX(Wrapper):
    """Steers a denoiser by two pictures.

    Arguments:
        model: a denoiser.
        steers: the model within, whose features are changed.
        structure: rows ``[B, ...]``.
        appearance: rows ``[B, ...]``.
        noise: normals ``[B, ...]`` that take both to x_t.
        structure_maps: numbers of the feature maps that are taken from the structure.
        appearance_maps: numbers of those that are given the appearance.
        structure_until: at times above this one; 1 is never.
        appearance_until: likewise.
    """

    steers: Steers
    structure: Tensor
    appearance: Tensor
    noise: Tensor
    structure_maps: tuple[int, ...]
    appearance_maps: tuple[int, ...]
    structure_until: float = 0.4
    appearance_until: float = 0.2

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Posterior:
        alpha_t, sigma_t = (per_row(a, x_t) for a in self.path(t))
        noise = sigma_t * as_many(self.noise, x_t)
        beside = [alpha_t * as_many(x, x_t) + noise for x in (self.structure, self.appearance)]
        time = float(t[0])

        def change(k: int, f: Tensor) -> Tensor:
            s, a, own = f.chunk(3)
            if k in self.structure_maps and time > self.structure_until:
                own = s
            if k in self.appearance_maps and time > self.appearance_until:
                own = transferred(own, a)
            return torch.cat([s, a, own])

        all_three = None if condition is None else condition.join(condition).join(condition)
        with self.steers.steered(change):
            posterior = self.model.denoise(torch.cat([*beside, x_t]), t.repeat(3), all_three)
        mean = posterior.mean.chunk(3)[2]
        if isinstance(posterior, LearnedStep):
            return LearnedStep(mean, posterior.step_variance.chunk(3)[2])
        return Dirac(mean)
