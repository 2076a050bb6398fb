r"""The diffusion transformer: an image as a sequence of patches, whose blocks time and label scale, shift and gate.

.. math:: x \leftarrow x + g_1 \odot \mathrm{Attention}((1 + a_1) \odot \mathrm{LN}(x) + b_1), \quad
    x \leftarrow x + g_2 \odot \mathrm{MLP}((1 + a_2) \odot \mathrm{LN}(x) + b_2)

with :math:`(a_1, b_1, g_1, a_2, b_2, g_2)` linear in the embedding of time and label and zero at first: every block
starts as the identity (adaLN-Zero). Attention to a sequence comes after the perceptron, as in latent diffusion.

References:
    | Scalable Diffusion Models with Transformers (Peebles and Xie, 2023), Section 3.2
    | https://arxiv.org/abs/2212.09748
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from reverie.core.batch import Condition
from reverie.core.errors import RequestError
from reverie.core.space import Space
from reverie.core.strict import Strict
from reverie.nn.attention import heads_of
from reverie.nn.conditioning import SequenceInput, Switch, concatenated, image_like, taken
from reverie.nn.embedding import ConditionEmbedding, grid_features
from reverie.nn.patches import check_side, from_patches, patches
from reverie.nn.rotary import Rotation, rotation
from reverie.nn.self_conditioning import answered_twice, unanswered
from reverie.nn.transformer import CrossAttention, Perceptron, SelfAttention
from reverie.nn.zeroed import zeroed


class Config(Strict):
    """A diffusion transformer.

    Arguments:
        patch: side of the squares of pixels that are one element of the sequence.
        width: values of an element.
        depth: blocks.
        head_width: values a head of attention, a multiple of 4.
        ratio: hidden units of the perceptrons over the width.
        dropout: share of the perceptrons' hidden units dropped.
        positions: how places are told. ``sincos``: sines of their coordinates are added, which on another size of
            image are stretched over it; ``rotary``: attention sees how far apart they are, at any size (a fifth more
            time on a CPU, where elements are few); ``both``.
        condition: what is taken beside time and label: ``none``, an image by ``concatenation``, a sequence by
            ``cross-attention``, both (``hybrid``), or whatever the rows have (``auto``).
        self_conditioning: the network runs twice and sees its first answer the second time; in training in half the
            rows. No solver needs to know, and samples cost twice the time.
    """

    patch: int = Field(4, ge=1)
    width: int = Field(128, ge=8)
    depth: int = Field(6, ge=1)
    head_width: int = Field(32, ge=4, multiple_of=4)
    ratio: float = Field(4.0, gt=0)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    positions: Literal["sincos", "rotary", "both"] = "sincos"
    condition: Switch = "auto"
    self_conditioning: bool = False


class Block(nn.Module):
    """Creates an adaLN-Zero block; it starts as the identity.

    Arguments:
        width: D.
        condition: length of the conditioning vector.
        context: values of the elements of the sequence attended to; 0 for none.
        config: the other sizes.
    """

    def __init__(self, width: int, condition: int, context: int, config: Config) -> None:
        super().__init__()
        self.modulation = zeroed(nn.Linear(condition, 6 * width))
        self.norm_1 = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = SelfAttention(width, config.head_width)
        self.norm_2 = nn.LayerNorm(width, elementwise_affine=False)
        self.perceptron = Perceptron(width, config.ratio, config.dropout)
        if context:
            self.norm_3 = nn.LayerNorm(width)
            self.cross = CrossAttention(width, context, config.head_width)
            zeroed(self.cross.out)

    def forward(self, x: Tensor, vector: Tensor, rotation: Rotation | None, sequence: Tensor | None) -> Tensor:
        """Returns ``[B, L, D]``."""
        a_1, b_1, g_1, a_2, b_2, g_2 = self.modulation(vector)[:, None].chunk(6, dim=2)  # [B, 1, D]
        x = torch.addcmul(x, g_1, self.attention(torch.addcmul(b_1, self.norm_1(x), 1.0 + a_1), rotation))
        x = torch.addcmul(x, g_2, self.perceptron(torch.addcmul(b_2, self.norm_2(x), 1.0 + a_2)))
        return x if sequence is None else cast(Tensor, x + self.cross(self.norm_3(x), sequence))


class Network(nn.Module):
    """Creates a diffusion transformer for images of any size.

    Arguments:
        config: its sizes.
        space: what one image is.

    Raises:
        RequestError: the space is not of images, or the options do not fit it.
    """

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        self.head_width = config.width // heads_of(config.width, config.head_width)
        if config.positions != "sincos" and self.head_width % 4:
            raise RequestError(f"width = {config.width} makes heads of {self.head_width}; rotary needs a multiple of 4")
        if config.positions != "rotary" and config.width % 4:
            raise RequestError(f"width = {config.width}: sincos needs a multiple of 4")
        channels, height, width = space.image("dit")
        check_side(config.patch, height, width)
        self.maps, sequence = taken(config.condition, space)
        self.patch, self.positions, self.answers = config.patch, config.positions, config.self_conditioning
        self.grid = (-(-height // config.patch), -(-width // config.patch))
        places = config.patch**2
        values = (channels * (1 + self.answers) + self.maps) * places
        self.embedding = ConditionEmbedding(space, config.width, config.width)
        self.sequence = SequenceInput(sequence) if sequence else None
        self.stem = nn.Linear(values, config.width)
        blocks = [Block(config.width, config.width, sequence, config) for _ in range(config.depth)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(config.width, elementwise_affine=False)
        self.modulation = zeroed(nn.Linear(config.width, 2 * config.width))
        self.head = zeroed(nn.Linear(config.width, channels * places))

    def forward(
        self, x: Tensor, t: Tensor, condition: Condition | None = None, residuals: Sequence[Tensor] = ()
    ) -> Tensor:
        """Returns ``[B, C, H, W]`` from x ``[B, C, H, W]``; ``residuals`` ``[B, L, width]`` follow the blocks."""
        if not self.answers:
            return self._answer(x, t, condition, residuals)
        return answered_twice(lambda seen: self._answer(seen, t, condition, residuals), x, self.training)

    def control(self, maps: int) -> Branch:
        """A copy of the first half of the blocks that a map of ``maps`` channels is fed to; see ``nn.control``."""
        return Branch(self, maps)

    def enter(self, x: Tensor, condition: Condition | None) -> tuple[Tensor, Rotation | None]:
        """The image and its map as elements ``[B, L, width]`` that know their places, and the rotation if any."""
        h = patches(concatenated(x, condition, self.maps), self.patch)
        grid = (-(-x.shape[2] // self.patch), -(-x.shape[3] // self.patch))
        tokens = self.stem(h)
        if self.positions != "rotary":
            tokens = tokens + grid_features(grid, self.grid, tokens.shape[2], x.device).to(tokens.dtype)
        return tokens, None if self.positions == "sincos" else rotation(*grid, self.head_width, x.device)

    def attended(self, condition: Condition | None, rows: int) -> Tensor | None:
        """The sequence that elements attend to, ``[B, M, D]``; None where the network takes none."""
        return None if self.sequence is None else cast(Tensor, self.sequence(condition, rows))

    def _answer(self, x: Tensor, t: Tensor, condition: Condition | None, residuals: Sequence[Tensor]) -> Tensor:
        vector = self.embedding(t, condition)
        h, places = self.enter(x, condition)
        sequence = self.attended(condition, len(x))
        for k, block in enumerate(self.blocks):
            h = block(h, vector, places, sequence)
            if k < len(residuals):
                h = h + residuals[k]
        a, b = self.modulation(vector)[:, None].chunk(2, dim=2)
        h = self.head(torch.addcmul(b, self.norm(h), 1.0 + a))
        return from_patches(h, self.patch, *x.shape[2:]).to(x.dtype)


class Branch(nn.Module):
    """Creates the control of a transformer: a copy of the first half of its blocks, with zero layers around them.

    Arguments:
        network: what is controlled; its weights are copied as they are.
        maps: channels of the map.

    References:
        | PixArt-delta: Fast and Controllable Image Generation with Latent Consistency Models (Chen et al., 2024),
        | Section 3.3
        | https://arxiv.org/abs/2401.05252
    """

    def __init__(self, network: Network, maps: int) -> None:
        super().__init__()
        self.maps = maps
        self.network = copy.deepcopy(network)
        self.network.blocks = self.network.blocks[: -(-len(network.blocks) // 2)]
        del self.network.norm, self.network.modulation, self.network.head
        width = self.network.stem.out_features
        self.hint = zeroed(nn.Linear(maps * network.patch**2, width))
        self.zero = nn.ModuleList([zeroed(nn.Linear(width, width)) for _ in self.network.blocks])

    def forward(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> list[Tensor]:
        """Returns the residuals of the network's first blocks, ``[B, L, width]`` each."""
        net = self.network
        vector, sequence = net.embedding(t, condition), net.attended(condition, len(x))
        seen = unanswered(x) if net.answers else x
        h, places = net.enter(seen, condition)
        h = h + self.hint(patches(image_like(x, condition, self.maps), net.patch))
        residuals = []
        for block, zero in zip(net.blocks, self.zero, strict=True):
            h = block(h, vector, places, sequence)
            residuals.append(zero(h))
        return residuals
