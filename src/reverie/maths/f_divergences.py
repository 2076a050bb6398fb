r"""f-divergences, and the variational bound that a GAN climbs to estimate one.

.. math::
    D_f(P \Vert Q) = E_{x \sim q} f\big(\tfrac{p(x)}{q(x)}\big)
    = \sup_T\; E_{x \sim p} T(x) - E_{x \sim q} f^*(T(x)), \qquad f^*(t) = \sup_{u > 0}\; u t - f(u)

with f convex and f(1) = 0. The supremum is at :math:`T = f'(p / q)`. T must stay in the domain of :math:`f^*`: an
output activation :math:`g_f` takes a logit there, and rises with it, so that a larger logit means "more like the data"
for every divergence.

References:
    | f-GAN: Training Generative Neural Samplers using Variational Divergence Minimization
    | (Nowozin, Cseke and Tomioka, 2016), Tables 1, 2 and 6
    | https://arxiv.org/abs/1606.00709
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Divergence:
    """One f-divergence.

    Arguments:
        f: the generator function, of ratios u > 0.
        slope: f', of ratios: the best T is ``slope(p / q)``.
        conjugate: f*, of t within ``domain``.
        activation: g_f, from a logit to t.
        composed: f*(g_f(v)) of a logit v, in a form that keeps its digits where the two steps would not.
        domain: the open interval of t that g_f reaches, ends included where they are reached.
    """

    f: Function
    slope: Function
    conjugate: Function
    activation: Function
    composed: Function
    domain: tuple[float, float]


class _LambertWOfExp(torch.autograd.Function):
    """W(e^s), whose slope W / (1 + W) is written in W itself, and so has slopes of its own."""

    @staticmethod
    def forward(ctx: Any, s: Tensor) -> Tensor:
        log_w = torch.where(s > 1, s.clamp(min=1.0).log(), s - F.softplus(s))
        for _ in range(20):  # quadratic: four digits become sixteen in two steps
            w = log_w.exp()
            log_w = log_w - (w + log_w - s) / (1 + w)
        w = log_w.exp()
        w = w - (w + log_w - s) * w / (1 + w)  # of w itself: the exponential lost a digit
        ctx.save_for_backward(w)
        return w

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (w,) = ctx.saved_tensors
        return slopes[0] * w / (1 + w)


def lambert_w_of_exp(s: Tensor) -> Tensor:
    """w > 0 with w + log w = s: Lambert's W of e^s, by Newton's method; differentiable as often as is wanted.

    Arguments:
        s: of any size; e^s itself would overflow.
    """
    w: Tensor = _LambertWOfExp.apply(s)
    return w


def _jeffrey_conjugate(t: Tensor) -> Tensor:
    w = lambert_w_of_exp(1 - t)
    return w + (w + t - 1).exp() + t - 2  # the middle one is 1 / w, whose slope would square a w that is nearly 0


def _slowed(divergence: Divergence) -> Divergence:
    """The same divergence, with the logit under asinh before the paper's activation.

    In the paper's own a term grows like e^v, or e^-v, and one row of which D is sure throws a training off: both grow
    at most like v. Any increasing map onto the domain serves, and the best T is reached as before.
    """
    return replace(
        divergence,
        activation=lambda v: divergence.activation(v.asinh()),
        composed=lambda v: divergence.composed(v.asinh()),
    )


def weighted_jensen_shannon(pi: float) -> Divergence:
    """The Jensen-Shannon divergence of weights pi of P and 1 - pi of Q, 0 < pi < 1."""
    entropy = -pi * math.log(pi)

    def composed(v: Tensor) -> Tensor:
        far = F.softplus(-v.clamp(max=20.0)) / pi  # pi e^(t / pi) = e^-far
        # Of a large v, far is e^-v / pi, and 1 - e^-far is far: written so, its slope lasts.
        log_near = torch.where(v < 20.0, torch.log(-torch.expm1(-far)), -v - math.log(pi))
        return (1 - pi) * (math.log(1 - pi) - log_near)

    return Divergence(
        f=lambda u: pi * u * u.log() - (1 - pi + pi * u) * (1 - pi + pi * u).log(),
        slope=lambda u: pi * (u.log() - (1 - pi + pi * u).log()),
        conjugate=lambda t: (1 - pi) * ((1 - pi) / (1 - pi * (t / pi).exp())).log(),
        activation=lambda v: entropy - F.softplus(-v),
        composed=composed,
        domain=(-math.inf, entropy),
    )


DIVERGENCES: Mapping[str, Divergence] = {
    "total-variation": Divergence(
        f=lambda u: 0.5 * (u - 1).abs(),
        slope=lambda u: 0.5 * (u - 1).sign(),
        conjugate=lambda t: t,
        activation=lambda v: 0.5 * v.tanh(),
        composed=lambda v: 0.5 * v.tanh(),
        domain=(-0.5, 0.5),
    ),
    "kl": _slowed(
        Divergence(
            f=lambda u: u * u.log(),
            slope=lambda u: 1 + u.log(),
            conjugate=lambda t: (t - 1).exp(),
            activation=lambda v: v,
            composed=lambda v: (v - 1).exp(),
            domain=(-math.inf, math.inf),
        )
    ),
    "reverse-kl": _slowed(
        Divergence(
            f=lambda u: -u.log(),
            slope=lambda u: -1 / u,
            conjugate=lambda t: -1 - (-t).log(),
            activation=lambda v: -(-v).exp(),
            composed=lambda v: v - 1,
            domain=(-math.inf, 0.0),
        )
    ),
    # Below t = -2 the supremum over u > 0 is at u = 0; the form here, the paper's, is that of (u - 1)^2 on all numbers,
    # which bounds it from above and joins it smoothly at -2.
    "pearson": Divergence(
        f=lambda u: (u - 1).square(),
        slope=lambda u: 2 * (u - 1),
        conjugate=lambda t: 0.25 * t.square() + t,
        activation=lambda v: v,
        composed=lambda v: 0.25 * v.square() + v,
        domain=(-2.0, math.inf),
    ),
    "neyman": _slowed(
        Divergence(
            f=lambda u: (1 - u).square() / u,
            slope=lambda u: 1 - 1 / u.square(),
            conjugate=lambda t: 2 - 2 * (1 - t).sqrt(),
            activation=lambda v: -torch.expm1(-v),
            composed=lambda v: -2 * torch.expm1(-0.5 * v),
            domain=(-math.inf, 1.0),
        )
    ),
    "hellinger": _slowed(
        Divergence(
            f=lambda u: (u.sqrt() - 1).square(),
            slope=lambda u: 1 - 1 / u.sqrt(),
            conjugate=lambda t: t / (1 - t),
            activation=lambda v: -torch.expm1(-v),
            composed=torch.expm1,
            domain=(-math.inf, 1.0),
        )
    ),
    "jeffrey": _slowed(
        Divergence(
            f=lambda u: (u - 1) * u.log(),
            slope=lambda u: u.log() + 1 - 1 / u,
            conjugate=_jeffrey_conjugate,
            activation=lambda v: v,
            composed=_jeffrey_conjugate,
            domain=(-math.inf, math.inf),
        )
    ),
    # Twice the usual Jensen-Shannon divergence.
    "jensen-shannon": Divergence(
        f=lambda u: u * u.log() - (u + 1) * (0.5 * (u + 1)).log(),
        slope=lambda u: u.log() - (0.5 * (u + 1)).log(),
        conjugate=lambda t: -(2 - t.exp()).log(),
        activation=lambda v: math.log(2) - F.softplus(-v),
        composed=lambda v: F.softplus(v) - math.log(2),
        domain=(-math.inf, math.log(2)),
    ),
    "weighted-jensen-shannon": weighted_jensen_shannon(0.25),
    # Twice the usual Jensen-Shannon divergence, less log 4: f(1) is not 0 here, as in the GAN's own value.
    "gan": Divergence(
        f=lambda u: u * u.log() - (u + 1) * (u + 1).log(),
        slope=lambda u: u.log() - (u + 1).log(),
        conjugate=lambda t: -torch.log(-torch.expm1(t)),
        activation=lambda v: -F.softplus(-v),
        composed=F.softplus,
        domain=(-math.inf, 0.0),
    ),
}
