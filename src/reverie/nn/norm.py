"""Group normalisation, with what usually follows it (scale, shift, SiLU) in the same place."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GroupNorm(nn.Module):
    r"""Creates a group normalisation with an optional modulation and SiLU.

    .. math:: y = \mathrm{silu}\big((1 + s) (w \hat x + b) + h\big)

    with :math:`\hat x` of zero mean and unit variance within each group of channels of one row.

    Arguments:
        channels: C, in groups of 8 or more.
        activate: whether SiLU follows.

    References:
        | Group Normalization (Wu and He, 2018)
        | https://arxiv.org/abs/1803.08494
    """

    def __init__(self, channels: int, activate: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.groups = math.gcd(32, channels // 8, channels) if channels >= 16 else 1
        self.activate = activate
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """Returns ``[B, C, H, W]`` in x's dtype; ``scale`` and ``shift`` are ``[B, C]``, together or not at all."""
        y = F.group_norm(x, self.groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)
        if scale is not None and shift is not None:
            y = torch.addcmul(shift.to(x.dtype)[:, :, None, None], y, 1.0 + scale.to(x.dtype)[:, :, None, None])
        return F.silu(y) if self.activate else y
