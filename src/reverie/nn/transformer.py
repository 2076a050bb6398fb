r"""Attention over elements ``[B, L, D]``, to themselves and to others, and the block of latent diffusion's U-Net.

References:
    | Attention Is All You Need (Vaswani et al., 2017)
    | https://arxiv.org/abs/1706.03762
    | High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), Section 3.3, Appendix E.2.1
    | https://arxiv.org/abs/2112.10752
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from reverie.nn.attention import attend, heads_of
from reverie.nn.rotary import Rotation, rotate
from reverie.nn.zeroed import zeroed


class SelfAttention(nn.Module):
    """Creates attention of elements to each other, residual left to the caller.

    Arguments:
        width: D.
        head_width: values a head.
    """

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads_of(width, head_width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        """Returns ``[B, L, D]``; with ``rotation`` queries and keys are turned by their places."""
        rows, length, width = x.shape
        qkv = self.qkv(x).view(rows, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # [B, heads, L, d]
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        return cast(Tensor, self.out(attend(q, k, v).transpose(1, 2).reshape(rows, length, width)))


class CrossAttention(nn.Module):
    r"""Creates attention to another sequence y.

    .. math:: Q = W_Q \varphi(x), \quad K = W_K \tau(y), \quad V = W_V \tau(y)

    Arguments:
        width: D, of the elements that attend.
        context: of those attended to.
        head_width: values a head.
    """

    def __init__(self, width: int, context: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads_of(width, head_width)
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(context, 2 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns ``[B, L, D]`` from x ``[B, L, D]`` and y ``[B, M, context]``."""
        rows, length, width = x.shape
        shape = (rows, -1, self.heads, width // self.heads)
        k, v = self.kv(y).chunk(2, dim=2)
        q, k, v = (part.reshape(shape).transpose(1, 2) for part in (self.q(x), k, v))
        return cast(Tensor, self.out(attend(q, k, v).transpose(1, 2).reshape(rows, length, width)))


class Perceptron(nn.Sequential):
    """Creates the two layers that follow attention.

    Arguments:
        width: D.
        ratio: hidden units over D.
        dropout: share of hidden units dropped.
    """

    def __init__(self, width: int, ratio: float = 4.0, dropout: float = 0.0) -> None:
        hidden = int(width * ratio)
        super().__init__(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width))


class Layer(nn.Module):
    """Creates one of the T layers of the block below: attention, perceptron, attention to y, each beside its skip."""

    def __init__(self, width: int, context: int, head_width: int, dropout: float) -> None:
        super().__init__()
        self.norm_1, self.attention = nn.LayerNorm(width), SelfAttention(width, head_width)
        self.norm_2, self.perceptron = nn.LayerNorm(width), Perceptron(width, dropout=dropout)
        self.norm_3, self.cross = nn.LayerNorm(width), CrossAttention(width, context, head_width)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = x + self.attention(self.norm_1(x))
        x = x + self.perceptron(self.norm_2(x))
        return cast(Tensor, x + self.cross(self.norm_3(x), y))


class SpatialTransformer(nn.Module):
    r"""Creates the block by which a feature map attends to a sequence; it starts as the identity.

    ==========================================================  =================
    input, LayerNorm                                            h × w × c
    Conv 1 × 1                                                  h × w × d·n_h
    Reshape                                                     h·w × d·n_h
    T × {SelfAttention, MLP, CrossAttention}                    h·w × d·n_h
    Reshape                                                     h × w × d·n_h
    Conv 1 × 1                                                  h × w × c
    ==========================================================  =================

    Arguments:
        channels: c.
        context: values of the sequence's elements.
        head_width: d; n_h is how many of them c has room for.
        depth: T, the number of layers (no count of time steps).
        dropout: share of the perceptrons' hidden units dropped.
    """

    def __init__(self, channels: int, context: int, head_width: int, depth: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        width = head_width * max(1, channels // head_width)
        self.norm = nn.LayerNorm(channels)
        # A convolution of side 1 is a linear map of each place's channels, and needs no other layout.
        self.enter = nn.Linear(channels, width)
        self.layers = nn.ModuleList([Layer(width, context, head_width, dropout) for _ in range(depth)])
        self.leave = zeroed(nn.Linear(width, channels))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns ``[B, c, h, w]`` from x ``[B, c, h, w]`` and y ``[B, M, context]``."""
        rows, channels, height, width = x.shape
        places = x.permute(0, 2, 3, 1)  # a view in channels_last
        h = self.enter(self.norm(places)).reshape(rows, height * width, -1)
        for layer in self.layers:
            h = layer(h, y)
        return x + self.leave(h).view(rows, height, width, channels).permute(0, 3, 1, 2)
