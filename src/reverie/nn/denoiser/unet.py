"""The U-Net of diffusion and flow matching.

References:
    | Denoising Diffusion Probabilistic Models (Ho, Jain and Abbeel, 2020), Appendix B
    | https://arxiv.org/abs/2006.11239
    | Diffusion Models Beat GANs on Image Synthesis (Dhariwal and Nichol, 2021), Section 3
    | https://arxiv.org/abs/2105.05233
    | High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), Section 3.3: conditions
    | https://arxiv.org/abs/2112.10752
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reverie.core.batch import Condition
from reverie.core.errors import RequestError
from reverie.core.space import Space
from reverie.core.strict import Strict
from reverie.nn.attention import SelfAttention
from reverie.nn.conditioning import SequenceInput, Switch, concatenated, image_like, taken
from reverie.nn.embedding import ConditionEmbedding
from reverie.nn.norm import GroupNorm
from reverie.nn.patches import check_side, squares
from reverie.nn.resnet import Downsample, ResidualBlock, Upsample
from reverie.nn.self_conditioning import answered_twice, unanswered
from reverie.nn.transformer import SpatialTransformer
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
        condition: what is taken beside time and label: ``none``, an image by ``concatenation``, a sequence by
            ``cross-attention`` (in every block that attends), both (``hybrid``), or whatever the rows have (``auto``).
        transformer_depth: T, the layers of each block that attends to a sequence.
        self_conditioning: the network runs twice and sees its first answer the second time; in training in half the
            rows. No solver needs to know, and samples cost twice the time.
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
    condition: Switch = "auto"
    transformer_depth: int = Field(1, ge=1)
    self_conditioning: bool = False


def auto_multipliers(height: int, width: int) -> tuple[int, ...]:
    """1, 2, 2, …: as many levels as leave the shorter side at 7 or more."""
    levels, side = 1, min(height, width)
    while (side + 1) // 2 >= 7:
        levels, side = levels + 1, (side + 1) // 2
    return (1, *[2] * (levels - 1))


class Stage(nn.Module):
    """Creates a residual block, and attention after it where asked for: to places and, where there is one, a sequence.

    Arguments:
        sizes: channels before and after.
        vector: length of the vector of time and label.
        context: values of the sequence's elements; 0 for none.
        config: the other sizes.
        attention: whether it attends.
    """

    def __init__(self, sizes: tuple[int, int], vector: int, context: int, config: Config, attention: bool) -> None:
        super().__init__()
        outputs = sizes[1]
        self.block = ResidualBlock(*sizes, vector, config.dropout)
        self.to_sequence = attention and context > 0
        self.attention: nn.Module = nn.Identity()
        if self.to_sequence:
            depth = config.transformer_depth
            self.attention = SpatialTransformer(outputs, context, config.head_width, depth, config.dropout)
        elif attention:
            self.attention = SelfAttention(outputs, config.head_width)

    def forward(self, x: Tensor, vector: Tensor, sequence: Tensor | None = None) -> Tensor:
        h = self.block(x, vector)
        return cast(Tensor, self.attention(h, sequence) if self.to_sequence else self.attention(h))


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
        channels, height, width = space.image("unet")
        patch, self.answers = config.patch, config.self_conditioning
        self.patch = patch
        check_side(patch, height, width)
        height, width, values = -(-height // patch), -(-width // patch), channels * patch**2
        multipliers = config.multipliers or auto_multipliers(height, width)
        widths = [config.width * m for m in multipliers]
        blocks_up = config.blocks_up or config.blocks + 1
        if blocks_up > config.blocks + 1:
            raise RequestError(f"blocks_up = {blocks_up} is more than the {config.blocks + 1} skip connections a level")
        self.maps, context = taken(config.condition, space)
        if context and not (config.middle_attention or config.attention):
            raise RequestError("a sequence is attended to where the unet attends: set middle_attention or attention")
        vector = 4 * config.width
        self.embedding = ConditionEmbedding(space, config.width, vector)
        self.sequence = SequenceInput(context) if context else None
        seen = values * (1 + self.answers) + self.maps * patch**2
        self.stem = nn.Conv2d(seen, config.width, 3, padding=1)

        def stage(ins: int, outs: int, attention: bool) -> Stage:
            return Stage((ins, outs), vector, context, config, attention)

        self.down, self.downsample = nn.ModuleList(), nn.ModuleList()
        self.up, self.upsample = nn.ModuleList(), nn.ModuleList()
        sides = [max(height, width)]
        inputs = config.width
        skips: list[list[int]] = []  # channels of each level's skip connections
        for level, outputs in enumerate(widths):
            attention = sides[-1] in config.attention
            ins = [inputs, *[outputs] * (config.blocks - 1)]
            self.down.append(nn.ModuleList([stage(i, outputs, attention) for i in ins]))
            skips.append([inputs, *[outputs] * config.blocks][-blocks_up:])
            if level + 1 < len(widths):
                self.downsample.append(Downsample(outputs, outputs))
                sides.append((sides[-1] + 1) // 2)
            inputs = outputs
        self.middle_1 = stage(inputs, inputs, config.middle_attention)
        self.middle_2 = stage(inputs, inputs, False)
        for level, outputs in reversed(list(enumerate(widths))):
            attention = sides[level] in config.attention
            ins = [inputs, *[outputs] * (blocks_up - 1)]
            pairs = zip(ins, reversed(skips[level]), strict=True)
            self.up.append(nn.ModuleList([stage(i + s, outputs, attention) for i, s in pairs]))
            inputs = outputs
            if level:
                inputs = widths[level - 1]
                self.upsample.append(Upsample(outputs, inputs))
        self.blocks_up = blocks_up
        self.residual_widths = [*(channels for level in skips for channels in level), widths[-1]]
        self.norm = GroupNorm(inputs)
        self.head = zeroed(nn.Conv2d(inputs, values, 3, padding=1))

    def forward(
        self, x: Tensor, t: Tensor, condition: Condition | None = None, residuals: Sequence[Tensor] = ()
    ) -> Tensor:
        """Returns ``[B, C, H, W]`` from x ``[B, C, H, W]`` and times ``[B]`` in [0, 1].

        One residual more than there are skip connections is added at the lowest resolution.
        """
        if not self.answers:
            return self._answer(x, t, condition, residuals)
        return answered_twice(lambda seen: self._answer(seen, t, condition, residuals), x, self.training)

    def _answer(self, x: Tensor, t: Tensor, condition: Condition | None, residuals: Sequence[Tensor]) -> Tensor:
        vector, sequence = self.embedding(t, condition), self.attended(condition, len(x))
        h, skips = self.encode(concatenated(x, condition, self.maps), vector, sequence)
        h = self.middle_2(self.middle_1(h, vector, sequence), vector)
        if residuals:
            rest = iter(residuals)
            skips = [[skip + next(rest) for skip in level] for level in skips]
            h = sum(rest, h)
        h = self.decode(h, skips, vector, sequence)
        y = F.pixel_shuffle(self.head(self.norm(h)), self.patch)
        return y[:, :, : x.shape[2], : x.shape[3]].to(x.dtype)

    def control(self, maps: int) -> Branch:
        """A copy of the encoder that a map of ``maps`` channels is fed to; see ``nn.control``."""
        return Branch(self, maps)

    def attended(self, condition: Condition | None, rows: int) -> Tensor | None:
        """The sequence that places attend to, ``[B, M, D]``; None where the network takes none."""
        return None if self.sequence is None else cast(Tensor, self.sequence(condition, rows))

    def encode(
        self, x: Tensor, vector: Tensor, sequence: Tensor | None = None, hint: Tensor | None = None
    ) -> tuple[Tensor, list[list[Tensor]]]:
        """Returns the lowest resolution's features, and each level's skip connections from first to last.

        Arguments:
            x: the image, and its map's channels after its own.
            vector: of time and label.
            sequence: what places attend to.
            hint: added to the first features, ``[B, width, H / patch, W / patch]``.
        """
        h = self.stem(squares(x, self.patch))
        if h.device.type == "cpu":  # where the layout is not told by the data: convolutions are faster in it
            h = h.contiguous(memory_format=torch.channels_last)
        h = h if hint is None else h + hint
        skips: list[list[Tensor]] = []
        for level, stages in enumerate(self.down):
            features = [h]
            for stage in stages:  # type: ignore[attr-defined]
                features.append(stage(features[-1], vector, sequence))
            skips.append(features[-self.blocks_up :])
            h = features[-1]
            if level < len(self.downsample):
                h = self.downsample[level](h)
        return h, skips

    def decode(self, h: Tensor, skips: list[list[Tensor]], vector: Tensor, sequence: Tensor | None = None) -> Tensor:
        """Returns full resolution's features, from the lowest one's and the skip connections."""
        for k, stages in enumerate(self.up):
            features = skips[len(skips) - 1 - k]
            if k:
                h = self.upsample[k - 1](h, *features[0].shape[-2:])
            for stage, skip in zip(stages, reversed(features), strict=True):  # type: ignore[call-overload]
                h = stage(torch.cat([h, skip], dim=1), vector, sequence)
        return h


class Branch(nn.Module):
    """Creates ControlNet's branch: a copy of a U-Net's encoder and middle, with zero convolutions around it.

    Arguments:
        network: what is controlled; its weights are copied as they are.
        maps: channels of the map.

    References:
        | Adding Conditional Control to Text-to-Image Diffusion Models (Zhang, Rao and Agrawala, 2023), Section 3.2
        | https://arxiv.org/abs/2302.05543
    """

    def __init__(self, network: Network, maps: int) -> None:
        super().__init__()
        self.maps = maps
        self.network = copy.deepcopy(network)
        del self.network.up, self.network.upsample, self.network.norm, self.network.head
        width = network.stem.out_channels
        # The paper's small encoder of the map: here at the resolution of the network's first level.
        self.hint = nn.Sequential(
            nn.Conv2d(maps * network.patch**2, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            zeroed(nn.Conv2d(width, width, 1)),
        )
        self.zero = nn.ModuleList([zeroed(nn.Conv2d(c, c, 1)) for c in network.residual_widths])

    def forward(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> list[Tensor]:
        """Returns the residuals of the skip connections from first to last, and of the middle."""
        net = self.network
        vector, sequence = net.embedding(t, condition), net.attended(condition, len(x))
        hint = self.hint(squares(image_like(x, condition, self.maps), net.patch))
        seen = unanswered(x) if net.answers else x
        h, skips = net.encode(concatenated(seen, condition, net.maps), vector, sequence, hint)
        h = net.middle_2(net.middle_1(h, vector, sequence), vector)
        features = [*(skip for level in skips for skip in level), h]
        return [zero(feature) for zero, feature in zip(self.zero, features, strict=True)]
