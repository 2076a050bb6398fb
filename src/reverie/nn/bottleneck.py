r"""R3GAN's residual block without normalisation, and its resampling by a binomial filter.

References:
    | The GAN is dead; long live the GAN! A Modern GAN Baseline (Huang et al., 2024), Section 4 and Appendix
    | https://arxiv.org/abs/2501.05441
    | Aggregated Residual Transformations for Deep Neural Networks (Xie et al., 2017): grouped bottlenecks
    | https://arxiv.org/abs/1611.05431
    | Fixup Initialization: Residual Learning Without Normalization (Zhang, Dauphin and Ma, 2019)
    | https://arxiv.org/abs/1901.09321
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reverie.core.strict import Strict
from reverie.maths.convolution import convolve, leaky_relu_
from reverie.nn.convolution import Convolution
from reverie.nn.residual import halvings

SLOPE = 0.2
GAIN = math.sqrt(2.0 / (1.0 + SLOPE**2))
"""Keeps the variance of what a leaky ReLU of that slope lets through."""


class Config(Strict):
    """R3GAN's networks, generator and discriminator alike.

    Arguments:
        width: channels of the first stage; doubled at each halving of the size.
        max_width: the most channels of a stage.
        stop: the side, or the next below, of the coarsest stage (the paper has 4).
        blocks: residual blocks of each stage.
        expansion: the inner width of a block, in widths of its stage.
        group: channels in each group of the inner 3x3 convolution (the paper has 16); 0 for one group.
        label: the length of a label's vector.
    """

    width: int = Field(64, ge=1)
    max_width: int = Field(256, ge=1)
    stop: int = Field(4, ge=1)
    blocks: int = Field(1, ge=1)
    expansion: int = Field(2, ge=1)
    group: int = Field(16, ge=0)
    label: int = Field(64, ge=1)

    def stages(self, height: int, width: int) -> tuple[list[tuple[int, int]], list[int]]:
        """The sizes and the channels of the stages from ``height`` by ``width`` down, fine to coarse."""
        sizes = halvings(height, width, self.stop)
        return sizes, [min(self.width * 2**i, self.max_width) for i in range(len(sizes))]


def scaled(layer: nn.Module, gain: float = 1.0) -> nn.Module:
    """Draws a layer's weights from a normal of deviation gain / sqrt(fan in), its biases from zero."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    nn.init.normal_(weight, std=gain / math.sqrt(weight[0].numel()))
    if isinstance(layer.bias, Tensor):
        nn.init.zeros_(layer.bias)
    return layer


class Bottleneck(nn.Module):
    """Creates x + W_3 a(W_2 a(W_1 x)): 1x1, grouped 3x3, 1x1, with leaky ReLUs a; the identity at first.

    Arguments:
        channels: of the input and the output.
        config: the network's options.
        depth: how many such blocks the network has in all.
    """

    def __init__(self, channels: int, config: Config, depth: int) -> None:
        super().__init__()
        inner = channels * config.expansion
        groups = max(inner // config.group, 1) if config.group else 1
        if inner % groups:
            groups = math.gcd(inner, groups)
        gain = GAIN * depth**-0.25  # L^(-1 / (2m - 2)) for m = 3 layers, rule 2 of Fixup
        self.expand = scaled(Convolution(channels, inner, 1), gain)
        self.mix = scaled(Convolution(inner, inner, 3, padding=1, groups=groups), gain)
        self.reduce = scaled(Convolution(inner, channels, 1, bias=False), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        y = leaky_relu_(self.expand(x), SLOPE)
        y = leaky_relu_(self.mix(y), SLOPE)
        return x + self.reduce(y)


def enlarge(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Doubles both sides with the filter [1, 3, 3, 1] (bilinear interpolation), cut to ``size``."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)[:, :, : size[0], : size[1]]


class Shrink(nn.Module):
    """Creates the adjoint of ``enlarge``, but at the border and for a factor of 4: halves both sides, rounding up."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8.0
        self.register_buffer("kernel", row[:, None] * row, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        channels, height, width = x.shape[1:]
        # Depthwise convolutions in bf16 are many times slower than in float32 on CPUs.
        with torch.autocast(x.device.type, enabled=False):
            y = F.pad(x.float(), (1, 1 + width % 2, 1, 1 + height % 2))
            kernel = self.kernel.expand(channels, 1, 4, 4)
            return convolve(y, kernel, stride=2, groups=channels).to(x.dtype)
