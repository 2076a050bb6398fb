r"""The variational bound of infinitely many steps, on a path that begins with a trace of noise.

.. math:: \log p(x) \ge E \log p(x | x_{t=0}) - KL(q(x_1 | x), N(0, I))
    - \tfrac12 E_{t, \epsilon} \, \gamma'_t \, \lVert \epsilon - \hat\epsilon(x_t) \rVert^2, \quad
    \gamma_t = -\log \text{SNR}_t

It depends on the path through its two ends alone. The probability of a level, given x at t = 0, is that of its bin
under the Gaussian about x there (the paper's is proportional to the density at the level).

References:
    | Variational Diffusion Models (Kingma et al., 2021), Equations 11 to 17
    | https://arxiv.org/abs/2107.00630
"""

from __future__ import annotations

import torch
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises, Path
from reverie.core.noise import Noise
from reverie.maths.densities import gaussian_kl, gaussian_log_prob
from reverie.maths.discretised_gaussian import discretised_gaussian_log_prob
from reverie.maths.paths import LinearLogSnr, per_row
from reverie.nn.schedule import LearnedSchedule
from reverie.samplers.solver import estimate

Falling = LinearLogSnr | LearnedSchedule
"""Paths that know gamma and its slope, and have some noise at t = 0."""


def prior(path: Path, x: Tensor) -> Tensor:
    """KL(q(x_1 | x), N(0, I)), ``[B]``."""
    alpha_1, sigma_1 = (per_row(a, x) for a in path(x.new_ones(len(x))))
    return gaussian_kl(alpha_1 * x, torch.log(sigma_1)).flatten(1).sum(1)


def reconstruction(path: Path, x: Tensor, noise: Noise, depth: int | None) -> Tensor:
    """log p(x | x_{t=0}), ``[B]``: of rows of ``depth`` levels the probability, of others the density."""
    alpha_0, sigma_0 = (per_row(a, x) for a in path(x.new_zeros(len(x))))
    sigma = sigma_0 / alpha_0
    mean = x + sigma * noise.normal(*x.shape[1:])
    if depth:
        return discretised_gaussian_log_prob(x, mean, sigma, depth).flatten(1).sum(1)
    return gaussian_log_prob(x, mean, torch.log(sigma)).flatten(1).sum(1)


def continuous_bound(
    model: Denoises, path: Falling, times: int, x: Tensor, noise: Noise, condition: Condition | None = None
) -> Tensor:
    """An unbiased estimate of the bound in nats, ``[B]``.

    Arguments:
        model: a denoiser on the path.
        path: the model's own.
        times: how many times are evaluated, evenly spread with one random shift.
        x: rows ``[B, ...]``.
        noise: all randomness.
        condition: what rows are conditioned on.
    """
    total = reconstruction(path, x, noise.fork("first"), model.space.depth) - prior(path, x)
    u = noise.fork("times").uniform().to(x.dtype)
    for k in range(times):
        t = (k + u) / times
        alpha_t, sigma_t = (per_row(a, x) for a in path(t))
        eps = noise.normal(*x.shape[1:]).to(x.dtype)
        _, found = estimate(model, alpha_t * x + sigma_t * eps, t, condition)
        total = total - 0.5 * path.at(t)[1] * (eps - found).flatten(1).square().sum(1) / times
    return total
