r"""Exact log-likelihoods through the flow that takes data to noise.

.. math:: \log p(x_0) = \log N(x_1; 0, I) + \int_0^1 \nabla \cdot u(x_t, t) \, dt, \quad \frac{dx_t}{dt} = u(x_t, t)

The divergence is exact (one backward pass for each dimension) or Hutchinson's unbiased estimate
:math:`E_\varepsilon[\varepsilon^T \nabla u \, \varepsilon]` with random signs, one set of them along the whole way.

References:
    | FFJORD: Free-form Continuous Dynamics for Scalable Reversible Generative Models (Grathwohl et al., 2019)
    | https://arxiv.org/abs/1810.01367
    | Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), Appendix D.2
    | https://arxiv.org/abs/2011.13456
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from reverie.core.noise import GAMMA, KeyedNoise, mix
from reverie.maths.densities import gaussian_log_prob

Velocity = Callable[[Tensor, Tensor], Tensor]
"""u(x_t ``[B, ...]``, t ``[B]``), differentiable in x_t."""


def content_keys(x: Tensor) -> Tensor:
    """An integer for each row that depends on its values alone, int64 ``[B]``."""
    bits = x.detach().float().flatten(1).contiguous().view(torch.int32).long()
    places = torch.arange(bits.shape[1], device=x.device) * GAMMA
    return mix(bits + mix(places)).sum(1)


def signs(x: Tensor, count: int) -> Tensor:
    """``count`` rows of random signs for each row of x, ``[count, B, ...]``, keyed by the row's own content.

    So a row's estimate is the same in any batch, and no argument carries noise.
    """
    noise = KeyedNoise(0, content_keys(x), "trace")
    return torch.stack([noise.integers(2, *x.shape[1:]) * 2 - 1 for _ in range(count)]).to(x.dtype)


def basis(x: Tensor) -> Tensor:
    """Every unit vector, ``[D, B, ...]``: the sum over them is the exact trace."""
    size = x[0].numel()
    return torch.eye(size, dtype=x.dtype, device=x.device).view(size, 1, *x.shape[1:]).expand(size, *x.shape)


def with_divergence(velocity: Velocity, x_t: Tensor, t: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
    """The velocity, and the sum over probes of ``probe · J probe``, ``[B]``."""
    with torch.enable_grad():
        x_t = x_t.detach().requires_grad_()
        u = velocity(x_t, t)
        total = x_t.new_zeros(len(x_t))
        for k, probe in enumerate(probes):
            (pulled,) = torch.autograd.grad(u, x_t, probe, retain_graph=k + 1 < len(probes))
            total = total + (pulled * probe).flatten(1).sum(1)
    return u.detach(), total.detach()


def log_likelihood(velocity: Velocity, x: Tensor, steps: int, exact: bool, probes: int = 1) -> Tensor:
    """Returns log p(x) in nats, ``[B]``, by the classical Runge-Kutta method of order 4.

    Arguments:
        velocity: of the flow from data (t = 0) to noise (t = 1).
        x: rows ``[B, ...]``.
        steps: even steps from 0 to 1, four evaluations each.
        exact: whether the divergence is exact.
        probes: random sign vectors a row where it is not.
    """
    vectors = basis(x) if exact else signs(x, probes)
    share = 1.0 if exact else 1 / probes
    h = 1 / steps
    x_t, gained = x, x.new_zeros(len(x))

    def slope(x_t: Tensor, time: float) -> tuple[Tensor, Tensor]:
        return with_divergence(velocity, x_t, x_t.new_full((len(x_t),), time), vectors)

    for k in range(steps):
        t = k * h
        u_1, d_1 = slope(x_t, t)
        u_2, d_2 = slope(x_t + h / 2 * u_1, t + h / 2)
        u_3, d_3 = slope(x_t + h / 2 * u_2, t + h / 2)
        u_4, d_4 = slope(x_t + h * u_3, min(t + h, 1.0))
        x_t = x_t + h / 6 * (u_1 + 2 * u_2 + 2 * u_3 + u_4)
        gained = gained + share * h / 6 * (d_1 + 2 * d_2 + 2 * d_3 + d_4)
    zero = x_t.new_zeros(())
    return gaussian_log_prob(x_t, zero, zero).flatten(1).sum(1) + gained
