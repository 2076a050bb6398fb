r"""Group normalisation, with what usually follows it (scale, shift, SiLU) in the same place.

.. math:: z = a \hat x + h, \quad y = \mathrm{silu}(z)

with :math:`\hat x` of zero mean and unit variance within each group of channels of one row. On a CPU this is
written out, backward included, as a few passes over channels_last memory: torch's own backward is several times
slower there than the convolutions around it.

References:
    | Group Normalization (Wu and He, 2018)
    | https://arxiv.org/abs/1803.08494
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.nn.plain import only_first_derivatives, transformed

EPS = 1e-5


def norm_act(x: Tensor, scale: Tensor, shift: Tensor, groups: int, activate: bool) -> Tensor:
    """Group normalisation, scale and shift, SiLU.

    Arguments:
        x: ``[B, C, H, W]``.
        scale, shift: ``[B, C]``, float32.
        groups: how many groups of channels; divides C.
        activate: whether SiLU follows.
    """
    if x.device.type == "cpu" and only_first_derivatives():
        y: Tensor = _NormAct.apply(x, scale, shift, groups, activate)
        return y
    return _composed(x, scale, shift, groups, activate)


def _composed(x: Tensor, scale: Tensor, shift: Tensor, groups: int, activate: bool) -> Tensor:
    """The same in torch's own operations."""
    # Under transforms torch takes group_norm apart in a way that fails in channels_last.
    x_hat = F.group_norm(x.contiguous() if transformed() else x, groups, eps=EPS)
    z = torch.addcmul(_over_places(shift, x), x_hat.to(x.dtype), _over_places(scale, x))
    return F.silu(z) if activate else z


def _over_places(values: Tensor, x: Tensor) -> Tensor:
    """``[B, C]`` as ``[B, C, 1, 1]`` in x's dtype."""
    return values.to(x.dtype)[:, :, None, None]


class _NormAct(torch.autograd.Function):
    r"""The gradients, with :math:`g = \partial L / \partial z` and means over a group of one row:

    .. math:: \partial L / \partial x = r \big( a g - \overline{a g} - \hat x \, \overline{a g \hat x} \big)

    where r is one over the standard deviation; the means follow from the sums over places that the gradients
    of scale and shift need anyway.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, groups: int, activate: bool) -> Tensor:
        x_hat, rstd = _normalised(x, groups)
        z = torch.addcmul(_over_places(shift, x), x_hat, _over_places(scale, x))
        ctx.save_for_backward(x, x_hat, z if activate else None, rstd, scale, shift)
        ctx.groups = groups
        return F.silu(z) if activate else z

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, x_hat, z, rstd, scale, shift = ctx.saved_tensors
        if torch.is_grad_enabled():  # someone differentiates twice: let torch do it
            y = _composed(x, scale, shift, ctx.groups, z is not None)
            return (*torch.autograd.grad(y, (x, scale, shift), grad, create_graph=True), None, None)
        if z is not None:
            grad = torch.ops.aten.silu_backward(grad, z)
        product = grad * x_hat
        d_shift, d_scale = grad.sum((2, 3)).to(scale.dtype), product.sum((2, 3)).to(scale.dtype)
        rows, channels, height, width = x.shape
        grouped = (rows, ctx.groups, channels // ctx.groups)
        count = height * width * grouped[2]
        mean = (scale * d_shift).view(grouped).sum(2, keepdim=True) / count
        mean_hat = (scale * d_scale).view(grouped).sum(2, keepdim=True) / count
        gain = (scale.view(grouped) * rstd).view(rows, channels)
        offset = (-rstd * mean).expand(grouped).reshape(rows, channels)
        slope = (-rstd * mean_hat).expand(grouped).reshape(rows, channels)
        dx = torch.addcmul(_over_places(offset, x), x_hat, _over_places(slope, x), out=product)
        return dx.addcmul_(grad, _over_places(gain, x)), d_scale, d_shift, None, None


def _normalised(x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Returns the normalised values in x's dtype, and one over the standard deviations ``[B, groups, 1]``."""
    rows, channels, height, width = x.shape
    # Below 1024 places torch's bfloat16 kernel for channels_last is scalar: float32 and back is four times faster.
    wide = x.float() if x.dtype == torch.bfloat16 and height * width < 1024 else x
    x_hat, _, rstd = torch.native_group_norm(wide, None, None, rows, channels, height * width, groups, EPS)
    return x_hat.to(x.dtype), rstd.to(torch.promote_types(rstd.dtype, torch.float32))[:, :, None]


class GroupNorm(nn.Module):
    """Creates a group normalisation with learned scale and shift, an optional modulation, and SiLU.

    Arguments:
        channels: C, in groups of 8 or more.
        activate: whether SiLU follows.
    """

    def __init__(self, channels: int, activate: bool = True) -> None:
        super().__init__()
        self.groups = math.gcd(32, channels // 8, channels) if channels >= 16 else 1
        self.activate = activate
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """Returns ``[B, C, H, W]`` in x's dtype.

        With ``scale`` and ``shift``, ``[B, C]``, the normalised values are further multiplied by 1 + scale and shifted.
        """
        a, h = self.weight.expand(len(x), -1), self.bias.expand(len(x), -1)
        if scale is not None and shift is not None:
            a, h = a * (1.0 + scale), torch.addcmul(shift, h, 1.0 + scale)
        return norm_act(x, a, h, self.groups, self.activate)
