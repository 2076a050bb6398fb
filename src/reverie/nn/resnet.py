"""Normalised residual blocks of convolutions, and the steps between resolutions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from reverie.nn.norm import GroupNorm
from reverie.nn.zeroed import zeroed


class ResidualBlock(nn.Module):
    """Creates norm, SiLU, convolution, twice, beside a skip; it starts as its skip.

    The condition scales and shifts the second normalisation.

    Arguments:
        inputs, outputs: channels before and after.
        condition: length of the conditioning vector; 0 for none.
        dropout: share of values dropped before the second convolution.

    References:
        | Diffusion Models Beat GANs on Image Synthesis (Dhariwal and Nichol, 2021), Section 3
        | https://arxiv.org/abs/2105.05233
    """

    def __init__(self, inputs: int, outputs: int, condition: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm_1 = GroupNorm(inputs)
        self.conv_1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(condition, 2 * outputs) if condition else None
        self.norm_2 = GroupNorm(outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv_2 = zeroed(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Returns ``[B, outputs, H, W]`` from ``[B, inputs, H, W]`` and the condition ``[B, condition]``."""
        scale, shift = None, None
        if self.modulation is not None:
            scale, shift = self.modulation(condition).chunk(2, dim=1)
        h = self.conv_1(self.norm_1(x))
        h = self.conv_2(self.dropout(self.norm_2(h, scale, shift)))
        return self.skip(x) + h


class Downsample(nn.Conv2d):
    """Creates a convolution of stride 2: sides n become ⌈n / 2⌉."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, stride=2, padding=1)


class Upsample(nn.Module):
    """Creates a doubling by nearest neighbours, cropped to a given size, and a convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Returns ``[B, outputs, height, width]``; the sides are 2 n or 2 n - 1."""
        # Cropping, not resizing: pixel i keeps its place i // 2, where Downsample took it from.
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest")[:, :, :height, :width])
