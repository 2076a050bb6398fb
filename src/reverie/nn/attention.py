"""Self-attention over the places of a feature map."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from reverie.nn.norm import GroupNorm
from reverie.nn.zeroed import zeroed


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    r"""Scaled dot-product attention, :math:`\mathrm{softmax}(q k^T / \sqrt{d}) v` (Equation 1).

    Arguments:
        q, k, v: ``[B, heads, L, d]``.

    References:
        | Attention Is All You Need (Vaswani et al., 2017)
        | https://arxiv.org/abs/1706.03762
    """
    return F.scaled_dot_product_attention(q, k, v)


class SelfAttention(nn.Module):
    """Creates a residual self-attention block over H × W places; it starts as the identity.

    Arguments:
        channels: C.
        head_width: channels a head; one head where C is smaller.
    """

    def __init__(self, channels: int, head_width: int = 32) -> None:
        super().__init__()
        self.heads = max(1, channels // head_width)
        if channels % self.heads:
            raise ValueError(f"{channels} channels do not divide into heads of {head_width}")
        self.norm = GroupNorm(channels, activate=False)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Returns ``[B, C, H, W]``."""
        rows, channels, height, width = x.shape
        h = self.norm(x).flatten(2).transpose(1, 2)  # [B, H W, C]
        qkv = self.qkv(h).view(rows, height * width, 3, self.heads, channels // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # [B, heads, H W, d]
        h = self.out(attend(q, k, v).transpose(1, 2).reshape(rows, height * width, channels))
        return x + h.transpose(1, 2).view(rows, channels, height, width)
