r"""Gradient penalties of a discriminator.

Both are zero-centred: they pull the slope of the logit towards zero, on real rows (R1) and on generated ones (R2),

.. math::
    R_1 = \frac{\gamma}{2} E_{x \sim p} \lVert \nabla_x D(x) \rVert^2, \qquad
    R_2 = \frac{\gamma}{2} E_{x \sim q} \lVert \nabla_x D(x) \rVert^2

References:
    | Which Training Methods for GANs do actually Converge? (Mescheder, Geiger and Nowozin, 2018), Equations 9 and 10
    | https://arxiv.org/abs/1801.04406
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reverie.core.errors import RequestError, nearest
from reverie.maths.convolution import inputs_only


def slope(logits: Tensor, points: Tensor) -> Tensor:
    """The gradient of each row's logit at its point, itself differentiable.

    Arguments:
        logits: ``[B]``, computed from ``points``.
        points: ``[B, ...]``, requiring a gradient.

    Returns:
        float32 ``[B, ...]``. Under bf16 autocast the two backward passes run in bf16; the points are float32,
        so their gradient is too.
    """
    # The sum has each row's own gradient, since a row's logit does not depend on other rows (but for batch norm).
    with inputs_only():
        (gradient,) = torch.autograd.grad(logits.sum(), points, create_graph=True)
    return gradient.float()


def half_square(gradient: Tensor) -> Tensor:
    """Half the squared norm of each row's gradient, ``[B]``."""
    return 0.5 * gradient.flatten(1).square().sum(1)


@dataclass(frozen=True)
class Penalty:
    """A measure of the discriminator's slope at some points.

    Arguments:
        at: the points, ``"real"`` or ``"fake"`` rows.
        measure: the slope ``[B, ...]`` to one number a row, ``[B]``; its mean, times a weight, is added to the loss.
    """

    at: Literal["real", "fake"]
    measure: Callable[[Tensor], Tensor]


PENALTIES: Mapping[str, Penalty] = {
    "r1": Penalty("real", half_square),
    "r2": Penalty("fake", half_square),
}


def penalty(name: str) -> Penalty:
    """The penalty of that name.

    Raises:
        RequestError: there is none.
    """
    if name not in PENALTIES:
        raise RequestError(f"no penalty '{name}'{nearest(name, PENALTIES)}")
    return PENALTIES[name]
