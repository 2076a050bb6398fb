r"""Random Fourier features: coordinates as waves, so that a small network sees what is fine beside what is coarse.

.. math:: \gamma(x) = (x, \cos 2 \pi B x, \sin 2 \pi B x), \qquad B_{kd} \sim N(0, s^2)

References:
    | Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains (Tancik et al., 2020),
    | Section 4
    | https://arxiv.org/abs/2006.10739
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class FourierFeatures(nn.Module):
    """Creates the map.

    Arguments:
        inputs: the number of coordinates.
        waves: how many there are.
        scale: s, in waves per unit.
    """

    waves: Tensor

    def __init__(self, inputs: int, waves: int, scale: float) -> None:
        super().__init__()
        self.register_buffer("waves", scale * torch.randn(inputs, waves))

    def forward(self, x: Tensor) -> Tensor:
        """Returns ``[B, inputs + 2 waves]`` for ``[B, inputs]``."""
        phase = 2.0 * math.pi * (x.float() @ self.waves)
        return torch.cat([x, phase.cos(), phase.sin()], dim=1)
