r"""A convolution and a leaky ReLU that are as fast to differentiate twice as once, which gradient penalties do.

torch writes the second derivative of a convolution as convolutions whose kernels are as large as the image, a group
at a time: many times slower than the first derivative. But the three maps

.. math:: y = C(x, w), \quad \bar x = C^\top(\bar y, w), \quad \bar w = W(x, \bar y)

are one trilinear form :math:`\langle \bar y, C(x, w) \rangle` read in three ways, each the derivative of the others.

References:
    | Training Generative Adversarial Networks with Limited Data (Karras et al., 2020), whose code has the same idea
    | https://arxiv.org/abs/2006.06676
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_skip_weights = [0]
"""How many ``inputs_only`` are open; not local to a thread, since backward passes on a GPU have their own."""


@contextmanager
def inputs_only() -> Iterator[None]:
    """No gradients of weights within: autograd cannot tell a custom function that only the input's is asked for."""
    _skip_weights[0] += 1
    try:
        yield
    finally:
        _skip_weights[0] -= 1


class Geometry(NamedTuple):
    """How a convolution moves: the same along both sides."""

    stride: int
    padding: int
    groups: int


def _shaped(like: Tensor, shape: torch.Size) -> Tensor:
    """An empty tensor of that shape: the derivatives of torch's convolution ask for it, and read no values."""
    last = like.is_contiguous(memory_format=torch.channels_last)
    return torch.empty(
        shape,
        dtype=like.dtype,
        device=like.device,
        memory_format=torch.channels_last if last else torch.contiguous_format,
    )


def _derivative(gradient: Tensor, x: Tensor, weight: Tensor, how: Geometry, wanted: int) -> Tensor:
    stride, padding, groups = how
    result: Tensor = torch.ops.aten.convolution_backward(
        gradient,
        x,
        weight,
        None,
        [stride, stride],
        [padding, padding],
        [1, 1],
        False,
        [0, 0],
        groups,
        [wanted == 0, wanted == 1, False],
    )[wanted]
    return result


class _Convolve(torch.autograd.Function):
    """C(x, w), and its bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, how: Geometry) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how = how
        return F.conv2d(x, weight, bias, how.stride, how.padding, 1, how.groups)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias, _ = ctx.needs_input_grad
        skip = _skip_weights[0] > 0
        return (
            _ToInput.apply(gradient, weight, x.shape, ctx.how) if need_x else None,
            _ToWeight.apply(x, gradient, weight.shape, ctx.how) if need_weight and not skip else None,
            gradient.sum((0, 2, 3)) if need_bias and not skip else None,
            None,
        )


class _ToInput(torch.autograd.Function):
    """The adjoint in x."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, weight: Tensor, shape: torch.Size, how: Geometry) -> Tensor:
        ctx.save_for_backward(gradient, weight)
        ctx.how = how
        return _derivative(gradient, _shaped(gradient, shape), weight, how, wanted=0)

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        gradient, weight = ctx.saved_tensors
        need_gradient, need_weight, _, _ = ctx.needs_input_grad
        return (
            _Convolve.apply(outer, weight, None, ctx.how) if need_gradient else None,
            _ToWeight.apply(outer, gradient, weight.shape, ctx.how) if need_weight else None,
            None,
            None,
        )


class _ToWeight(torch.autograd.Function):
    """The adjoint in w."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gradient: Tensor, shape: torch.Size, how: Geometry) -> Tensor:
        ctx.save_for_backward(x, gradient)
        ctx.how = how
        return _derivative(gradient, x, _shaped(x, shape), how, wanted=1)

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, gradient = ctx.saved_tensors
        need_x, need_gradient, _, _ = ctx.needs_input_grad
        return (
            _ToInput.apply(gradient, outer, x.shape, ctx.how) if need_x else None,
            _Convolve.apply(x, outer, None, ctx.how) if need_gradient else None,
            None,
            None,
        )


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0, groups: int = 1
) -> Tensor:
    """What ``torch.nn.functional.conv2d`` computes, in autocast's type where autocast is on."""
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    result: Tensor = _Convolve.apply(x, weight, bias, Geometry(stride, padding, groups))
    return result


class _Leak(torch.autograd.Function):
    """The leaky ReLU, in place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> Tensor:
        y = F.leaky_relu_(x, slope)
        ctx.mark_dirty(x)
        ctx.save_for_backward(y)
        ctx.slope = slope
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        return _LeakBack.apply(gradient, y, ctx.slope), None


class _LeakBack(torch.autograd.Function):
    """A gradient, scaled by the slope where the leaky ReLU's output is negative."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, y: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(y)
        ctx.slope = slope
        result: Tensor = torch.ops.aten.leaky_relu_backward(gradient, y, slope, True)
        return result

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None]:
        (y,) = ctx.saved_tensors
        # Nothing for y: the slope does not change with it, almost everywhere. torch's own adds zeros there.
        return _LeakBack.apply(outer, y, ctx.slope), None, None


def leaky_relu_(x: Tensor, slope: float) -> Tensor:
    """What ``torch.nn.functional.leaky_relu_`` computes, for a slope above 0."""
    result: Tensor = _Leak.apply(x, slope)
    return result
