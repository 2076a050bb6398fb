"""Self-attention over the places of a feature map."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.nn.norm import GroupNorm
from reverie.nn.plain import only_first_derivatives, transformed
from reverie.nn.zeroed import zeroed

CHUNK = 2**21  # attention weights held at a time: with their gradients they stay in the cache


def heads_of(width: int, head_width: int) -> int:
    """How many heads of about ``head_width`` values divide the width: the most that do."""
    return next(heads for heads in range(max(1, width // head_width), 0, -1) if width % heads == 0)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    r"""Scaled dot-product attention, :math:`\mathrm{softmax}(q k^T / \sqrt{d}) v` (Equation 1).

    Arguments:
        q: ``[B, heads, L, d]``.
        k, v: ``[B, heads, M, d]``.

    References:
        | Attention Is All You Need (Vaswani et al., 2017)
        | https://arxiv.org/abs/1706.03762
    """
    if q.device.type == "cpu" and transformed():
        return _composed(q, k, v)  # torch's CPU kernel has no forward mode
    # On CPUs the backward of torch's bfloat16 kernel is slower than matrix products, and so is its forward in
    # heads narrower than 16.
    slow = q.device.type == "cpu" and q.dtype == torch.bfloat16 and (torch.is_grad_enabled() or q.shape[-1] < 16)
    if slow and only_first_derivatives():
        rows, heads, length, d = q.shape
        flat = [part.reshape(rows * heads, -1, d) for part in (q, k, v)]
        y: Tensor = _Attend.apply(*flat)
        return y.view(rows, heads, length, d)
    return F.scaled_dot_product_attention(q, k, v)


def _composed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same in differentiable matrix products."""
    return torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1) @ v


class _Attend(torch.autograd.Function):
    """Attention by matrix products over chunks of rows; backward computes the weights again."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, v)
        y = torch.empty_like(q)
        for part in _chunks(q, k):
            torch.bmm(_weights(q[part], k[part]), v[part], out=y[part])
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        q, k, v = ctx.saved_tensors
        if torch.is_grad_enabled():  # someone differentiates twice: let torch do it
            return torch.autograd.grad(_composed(q, k, v), (q, k, v), grad, create_graph=True)
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        for part in _chunks(q, k):
            p = _weights(q[part], k[part])
            torch.bmm(p.transpose(1, 2), grad[part], out=dv[part])
            dp = torch.bmm(grad[part], v[part].transpose(1, 2))
            ds = torch._softmax_backward_data(dp, p, -1, p.dtype)
            torch.bmm(ds, k[part], out=dq[part])
            torch.bmm(ds.transpose(1, 2), q[part], out=dk[part])
        return dq.mul_(q.shape[-1] ** -0.5), dk.mul_(q.shape[-1] ** -0.5), dv


def _chunks(q: Tensor, k: Tensor) -> list[slice]:
    rows, length, _ = q.shape
    size = max(1, CHUNK // (length * k.shape[1]))
    return [slice(start, start + size) for start in range(0, rows, size)]


def _weights(q: Tensor, k: Tensor) -> Tensor:
    return torch.softmax(torch.bmm(q * q.shape[-1] ** -0.5, k.transpose(1, 2)), dim=-1)


class SelfAttention(nn.Module):
    """Creates a residual self-attention block over H × W places; it starts as the identity.

    Arguments:
        channels: C.
        head_width: channels a head, or more, so that C divides into heads.
    """

    def __init__(self, channels: int, head_width: int = 32) -> None:
        super().__init__()
        self.heads = heads_of(channels, head_width)
        self.norm = GroupNorm(channels, activate=False)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Returns ``[B, C, H, W]``."""
        rows, channels, height, width = x.shape
        h = self.norm(x).permute(0, 2, 3, 1).reshape(rows, height * width, channels)  # a view in channels_last
        qkv = self.qkv(h).view(rows, height * width, 3, self.heads, channels // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # [B, heads, H W, d]
        h = self.out(attend(q, k, v).transpose(1, 2).reshape(rows, height * width, channels))
        return x + h.view(rows, height, width, channels).permute(0, 3, 1, 2)
