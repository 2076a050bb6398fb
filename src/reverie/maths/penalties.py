r"""Gradient penalties of a discriminator.

Two are zero-centred: they pull the slope of the logit towards zero, on real rows (R1) and on generated ones (R2),

.. math::
    R_1 = \frac{\gamma}{2} E_{x \sim p} \lVert \nabla_x D(x) \rVert^2, \qquad
    R_2 = \frac{\gamma}{2} E_{x \sim q} \lVert \nabla_x D(x) \rVert^2

The others pull it towards one, which makes a critic's value a distance: on lines between real and generated rows
(WGAN-GP, two-sided, or one-sided where only slopes above one are punished), and around real rows (DRAGAN),

.. math::
    \lambda E (\lVert \nabla_{\hat x} D(\hat x) \rVert - 1)^2, \qquad
    \hat x = \epsilon x + (1 - \epsilon) G(z) \quad \text{or} \quad \hat x = x + \epsilon \delta

References:
    | Improved Training of Wasserstein GANs (Gulrajani et al., 2017), Equation 3 and Algorithm 1
    | https://arxiv.org/abs/1704.00028
    | On the regularization of Wasserstein GANs (Petzka, Fischer and Lukovnikov, 2018), Equation 8
    | https://arxiv.org/abs/1709.08894
    | On Convergence and Stability of GANs (Kodali, Abernethy, Hays and Kira, 2017), Section 2.3
    | https://arxiv.org/abs/1705.07215
    | Which Training Methods for GANs do actually Converge? (Mescheder, Geiger and Nowozin, 2018), Equations 9 and 10
    | https://arxiv.org/abs/1801.04406
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reverie.core.errors import RequestError
from reverie.core.noise import Noise
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


def around_one(gradient: Tensor) -> Tensor:
    """The squared distance from one of the norm of each row's gradient, ``[B]``."""
    return (gradient.flatten(1).norm(dim=1) - 1.0).square()


def above_one(gradient: Tensor) -> Tensor:
    """The squared excess over one of the norm of each row's gradient, ``[B]``."""
    return (gradient.flatten(1).norm(dim=1) - 1.0).relu().square()


def between(real: Tensor, fake: Tensor, noise: Noise, deviation: Tensor) -> Tensor:
    """A point of the line from each real row to the generated row of the same place, uniform along it."""
    share = noise.fork("between").uniform(*[1] * (real.ndim - 1))
    return share * real + (1.0 - share) * fake


def around(real: Tensor, fake: Tensor, noise: Noise, deviation: Tensor) -> Tensor:
    """Real rows moved by uniform noise of up to half the standard deviation of such rows, by a uniform share of it."""
    draws = noise.fork("around")
    delta = 0.5 * deviation * draws.uniform(*real.shape[1:])
    return real + draws.fork("share").uniform(*[1] * (real.ndim - 1)) * delta


PLACES: Mapping[str, Callable[[Tensor, Tensor, Noise, Tensor], Tensor]] = {
    "real": lambda real, fake, noise, deviation: real,
    "fake": lambda real, fake, noise, deviation: fake,
    "between": between,
    "around": around,
}
"""Where slopes are measured, from real rows, generated rows, noise and the standard deviation of real rows' values.

That deviation is not taken of the rows given: of a micro-batch it would be another number than of the whole.
"""


@dataclass(frozen=True)
class Penalty:
    """A measure of the discriminator's slope at some points.

    Arguments:
        at: the points, a name from ``PLACES``.
        measure: the slope ``[B, ...]`` to one number a row, ``[B]``; its mean, times a weight, is added to the loss.
    """

    at: Literal["real", "fake", "between", "around"]
    measure: Callable[[Tensor], Tensor]


PENALTIES: Mapping[str, Penalty] = {
    "r1": Penalty("real", half_square),
    "r2": Penalty("fake", half_square),
    "gradient-penalty": Penalty("between", around_one),
    "one-sided-gradient-penalty": Penalty("between", above_one),
    "dragan": Penalty("around", around_one),
}


def penalty(name: str) -> Penalty:
    """The penalty of that name.

    Raises:
        RequestError: there is none.
    """
    if name not in PENALTIES:
        raise RequestError(f"no penalty '{name}'; there are {', '.join(PENALTIES)}")
    return PENALTIES[name]
