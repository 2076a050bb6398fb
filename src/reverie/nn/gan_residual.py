r"""The residual blocks of GANs: activation and convolution twice, resized within, beside a resized skip.

References:
    | Improved Training of Wasserstein GANs (Gulrajani et al., 2017), Appendix E
    | https://arxiv.org/abs/1704.00028
    | Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018), Appendix B.4
    | https://arxiv.org/abs/1802.05957
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reverie.core.errors import RequestError

Blocks = Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=1)], ...]
"""Residual blocks of a stage: of each alike, or one number a stage."""


def each_stage(blocks: int | tuple[int, ...], stages: int) -> tuple[int, ...]:
    """The blocks of each of so many stages.

    Raises:
        RequestError: there are other numbers than stages.
    """
    if isinstance(blocks, int):
        return (blocks,) * stages
    if len(blocks) != stages:
        raise RequestError(f"blocks has {len(blocks)} numbers: images of this size have {stages} stages")
    return blocks


class GrowBlock(nn.Module):
    """Creates a block of a generator, which may double the sides.

    Arguments:
        inputs, outputs: channels.
        size: the sides after it, where it doubles them (one row or column may be cut off); None where it keeps them.
        norm: whether batch norm precedes each activation.
        branch: the weight of what is added to the skip.
    """

    def __init__(
        self, inputs: int, outputs: int, size: tuple[int, int] | None, norm: bool, branch: float = 1.0
    ) -> None:
        super().__init__()
        self.size, self.branch = size, branch
        self.norm_1 = nn.BatchNorm2d(inputs) if norm else nn.Identity()
        self.conv_1 = _scaled(nn.Conv2d(inputs, outputs, 3, padding=1))
        self.norm_2 = nn.BatchNorm2d(outputs) if norm else nn.Identity()
        self.conv_2 = _scaled(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = _scaled(nn.Conv2d(inputs, outputs, 1), 1.0) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_1(self._resized(torch.relu(self.norm_1(x))))
        h = self.conv_2(torch.relu(self.norm_2(h)))
        # A 1x1 convolution before the enlargement is the same as one after it, at a quarter of the price.
        return torch.add(self._resized(self.skip(x)), h, alpha=self.branch)

    def _resized(self, x: Tensor) -> Tensor:
        if self.size is None:
            return x
        return F.interpolate(x, scale_factor=2.0, mode="nearest")[:, :, : self.size[0], : self.size[1]]


class ShrinkBlock(nn.Module):
    """Creates a block of a discriminator, which may halve the sides, rounding up.

    Arguments:
        inputs, outputs: channels.
        shrink: whether the sides are halved.
        norm: ``layer`` or ``none``: batch norm would let rows see each other, which penalties of each row forbid.
        first: whether it is the image itself that comes in, which no activation may precede.
        branch: the weight of what is added to the skip.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        shrink: bool,
        norm: Literal["layer", "none"],
        first: bool = False,
        branch: float = 1.0,
    ) -> None:
        super().__init__()
        self.shrink, self.first, self.branch = shrink, first, branch
        normed = norm == "layer"
        self.norm_1 = nn.GroupNorm(1, inputs) if normed and not first else nn.Identity()
        self.conv_1 = _scaled(nn.Conv2d(inputs, outputs, 3, padding=1))
        self.norm_2 = nn.GroupNorm(1, outputs) if normed else nn.Identity()
        self.conv_2 = _scaled(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = _scaled(nn.Conv2d(inputs, outputs, 1), 1.0) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = x if self.first else torch.relu(self.norm_1(x))
        h = self.conv_2(torch.relu(self.norm_2(self.conv_1(h))))
        return torch.add(self.skip(self._resized(x)), self._resized(h), alpha=self.branch)

    def _resized(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2, ceil_mode=True) if self.shrink else x


def _scaled(layer: nn.Conv2d, gain: float = 2.0**0.5) -> nn.Conv2d:
    """Xavier's uniform weights with this gain, and biases of 0 (Miyato et al., their program)."""
    nn.init.xavier_uniform_(layer.weight, gain)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
