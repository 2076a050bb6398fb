r"""Guidance within an interval of noise levels only, and none outside.

At high noise guidance drives all samples to a few templates; at low noise it changes little. In between it does what
it is for.

References:
    | Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in Diffusion Models
    | (Kynkäänniemi et al., 2024), Equation 4
    | https://arxiv.org/abs/2404.07724
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises, Posterior
from reverie.core.errors import RequestError
from reverie.maths.paths import per_row
from reverie.maths.posteriors import moved
from reverie.samplers.guidance.wrapper import Wrapper


@dataclass(frozen=True)
class Interval(Wrapper):
    """Guides a denoiser in an interval of times.

    Arguments:
        model: the plain denoiser.
        guided: the guided one.
        low: where guidance ends, towards data.
        high: where it begins, towards noise; both belong to the interval.

    Raises:
        RequestError: the interval is empty.
    """

    guided: Denoises
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise RequestError(f"the interval from {self.low:g} to {self.high:g} is empty: the lower time comes first")

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Posterior:
        inside = (t >= self.low) & (t <= self.high)
        if bool(inside.all()):
            return self.guided.denoise(x_t, t, condition)
        plain = self.model.denoise(x_t, t, condition)
        if not bool(inside.any()):
            return plain
        guided = self.guided.denoise(x_t, t, condition).mean
        return moved(plain, torch.where(per_row(inside, x_t), guided, plain.mean))
