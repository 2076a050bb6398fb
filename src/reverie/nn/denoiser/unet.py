"""The U-Net of diffusion and flow matching.

References:
    | Denoising Diffusion Probabilistic Models (Ho, Jain and Abbeel, 2020), Appendix B
    | https://arxiv.org/abs/2006.11239
    | Diffusion Models Beat GANs on Image Synthesis (Dhariwal and Nichol, 2021), Section 3
    | https://arxiv.org/abs/2105.05233
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reverie.core.batch import Condition
from reverie.core.errors import RequestError
from reverie.core.space import Space
from reverie.core.strict import Strict
from reverie.nn.attention import SelfAttention
from reverie.nn.embedding import ConditionEmbedding
from reverie.nn.norm import GroupNorm
from reverie.nn.resnet import Downsample, ResidualBlock, Upsample
from reverie.nn.zeroed import zeroed


class Config(Strict):
    """A U-Net.

    Arguments:
        patch: side of the squares of pixels that the first level takes for one place: at 2, a quarter of the places,
            which a CPU works through several times as fast; at 1 the U-Net of the papers.
        width: channels at the first level.
        multipliers: channels of each level as multiples of the width, one for each halving of the resolution
            and one more; None lets the lowest resolution be 7 or 8 (or what is nearest above).
        blocks: residual blocks a level on the way down.
        blocks_up: residual blocks a level on the way up, each with one skip connection; None is one more than down.
        attention: sides of the feature maps (the longer one) whose blocks attend.
        middle_attention: whether there is attention at the lowest resolution's middle.
        head_width: channels a head.
        dropout: share of values dropped within each residual block.
    """

    patch: int = Field(2, ge=1)
    width: int = Field(48, ge=4, multiple_of=2)
    multipliers: tuple[int, ...] | None = Field(None, min_length=1)
    blocks: int = Field(1, ge=1)
    blocks_up: int | None = Field(1, ge=1)
    attention: tuple[int, ...] = ()
    middle_attention: bool = True
    head_width: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)


def auto_multipliers(height: int, width: int) -> tuple[int, ...]:
    """1, 2, 2, …: as many levels as leave the shorter side at 7 or more."""
    levels, side = 1, min(height, width)
    while (side + 1) // 2 >= 7:
        levels, side = levels + 1, (side + 1) // 2
    return (1, *[2] * (levels - 1))


class Stage(nn.Module):
    """Creates a residual block, and attention after it where asked for."""

    def __init__(self, inputs: int, outputs: int, condition: int, config: Config, attention: bool) -> None:
        super().__init__()
        self.block = ResidualBlock(inputs, outputs, condition, config.dropout)
        self.attention = SelfAttention(outputs, config.head_width) if attention else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        y: Tensor = self.attention(self.block(x, condition))
        return y


class Network(nn.Module):
    """Creates a U-Net for images of any size from 8 × 8 up.

    Arguments:
        config: its sizes.
        space: what one image is.

    Raises:
        RequestError: the space is not of images, or the options do not fit it.
    """

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        if not space.is_image:
            raise RequestError(f"a unet needs images [C, H, W], not rows of shape {list(space.shape)}; try mlp")
        channels, height, width = space.shape
        patch = self.patch = config.patch
        height, width, values = -(-height // patch), -(-width // patch), channels * patch**2
        multipliers = config.multipliers or auto_multipliers(height, width)
        widths = [config.width * m for m in multipliers]
        blocks_up = config.blocks_up or config.blocks + 1
        if blocks_up > config.blocks + 1:
            raise RequestError(f"blocks_up = {blocks_up} is more than the {config.blocks + 1} skip connections a level")
        condition = 4 * config.width
        self.embedding = ConditionEmbedding(space, config.width, condition)
        self.stem = nn.Conv2d(values, config.width, 3, padding=1)
        self.down, self.downsample = nn.ModuleList(), nn.ModuleList()
        self.up, self.upsample = nn.ModuleList(), nn.ModuleList()
        sides = [max(height, width)]
        inputs = config.width
        skips: list[list[int]] = []  # channels of each level's skip connections
        for level, outputs in enumerate(widths):
            attention = sides[-1] in config.attention
            ins = [inputs, *[outputs] * (config.blocks - 1)]
            self.down.append(nn.ModuleList([Stage(i, outputs, condition, config, attention) for i in ins]))
            skips.append([inputs, *[outputs] * config.blocks][-blocks_up:])
            if level + 1 < len(widths):
                self.downsample.append(Downsample(outputs, outputs))
                sides.append((sides[-1] + 1) // 2)
            inputs = outputs
        self.middle_1 = Stage(inputs, inputs, condition, config, config.middle_attention)
        self.middle_2 = Stage(inputs, inputs, condition, config, False)
        for level, outputs in reversed(list(enumerate(widths))):
            attention = sides[level] in config.attention
            ins = [inputs, *[outputs] * (blocks_up - 1)]
            pairs = zip(ins, reversed(skips[level]), strict=True)
            self.up.append(nn.ModuleList([Stage(i + s, outputs, condition, config, attention) for i, s in pairs]))
            inputs = outputs
            if level:
                inputs = widths[level - 1]
                self.upsample.append(Upsample(outputs, inputs))
        self.blocks_up = blocks_up
        self.norm = GroupNorm(inputs)
        self.head = zeroed(nn.Conv2d(inputs, values, 3, padding=1))

    def forward(
        self, x: Tensor, t: Tensor, condition: Condition | None = None, residuals: Sequence[Tensor] = ()
    ) -> Tensor:
        """Returns ``[B, C, H, W]`` from x ``[B, C, H, W]`` and times ``[B]`` in [0, 1]."""
        vector = self.embedding(t, condition)
        h, skips = self.encode(x, vector)
        if residuals:
            rest = iter(residuals)
            skips = [[skip + next(rest) for skip in level] for level in skips]
        h = self.middle_2(self.middle_1(h, vector), vector)
        h = self.decode(h, skips, vector)
        y = F.pixel_shuffle(self.head(self.norm(h)), self.patch)
        return y[:, :, : x.shape[2], : x.shape[3]].to(x.dtype)

    def encode(self, x: Tensor, vector: Tensor) -> tuple[Tensor, list[list[Tensor]]]:
        """Returns the lowest resolution's features, and each level's skip connections from first to last."""
        beyond = [-side % self.patch for side in x.shape[2:]]  # sides that do not divide are filled up with zeros
        x = F.pad(x, (0, beyond[1], 0, beyond[0])) if any(beyond) else x
        h = self.stem(F.pixel_unshuffle(x, self.patch))
        if h.device.type == "cpu":  # where the layout is not told by the data: convolutions are faster in it
            h = h.contiguous(memory_format=torch.channels_last)
        skips: list[list[Tensor]] = []
        for level, stages in enumerate(self.down):
            features = [h]
            for stage in stages:  # type: ignore[attr-defined]
                features.append(stage(features[-1], vector))
            skips.append(features[-self.blocks_up :])
            h = features[-1]
            if level < len(self.downsample):
                h = self.downsample[level](h)
        return h, skips

    def decode(self, h: Tensor, skips: list[list[Tensor]], vector: Tensor) -> Tensor:
        """Returns full resolution's features, from the lowest one's and the skip connections."""
        for k, stages in enumerate(self.up):
            features = skips[len(skips) - 1 - k]
            if k:
                h = self.upsample[k - 1](h, *features[0].shape[-2:])
            for stage, skip in zip(stages, reversed(features), strict=True):  # type: ignore[call-overload]
                h = stage(torch.cat([h, skip], dim=1), vector)
        return h
