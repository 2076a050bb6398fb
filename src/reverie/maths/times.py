r"""Times to train at and times to sample at.

References:
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), Equation 5
    | https://arxiv.org/abs/2206.00364
    | DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling (Lu et al., 2022), Section 3.4
    | https://arxiv.org/abs/2206.00927
    | Scaling Rectified Flow Transformers for High-Resolution Image Synthesis (Esser et al., 2024), Section 3.1
    | https://arxiv.org/abs/2403.03206
    | Variational Diffusion Models (Kingma et al., 2021), Appendix I.1: low-discrepancy times
    | https://arxiv.org/abs/2107.00630
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from reverie.core.capabilities import Path
from reverie.core.errors import RequestError
from reverie.core.noise import GAMMA

Grid = Literal["even", "log-snr", "karras"]

MOST_STEPS = 100_000
"""From noise to data: more of them bring nothing that float32 could tell, and take days."""
LEAST, MOST = 0.002, 160.0
"""Of sigma / alpha: below, rows of unit scale are data to the eye; above, they are noise to within a percent."""


def even(ids: Tensor) -> Tensor:
    r"""A number in (0, 1) for each place in the stream of images, evenly spread over any stretch of the stream.

    .. math:: u_i = i / \varphi \bmod 1, \quad \varphi = (1 + \sqrt 5) / 2

    So each batch covers all times with less variance than independent draws, and however it is split.

    Arguments:
        ids: int64 ``[B]``.
    """
    # GAMMA is 2^64 / phi: the product wraps around, and its top 23 bits and a half are exact in float32.
    return ((((ids * GAMMA) >> 41) & 0x7FFFFF).float() + 0.5) * 2.0**-23


def logit_normal(u: Tensor, location: float = 0.0, scale: float = 1.0) -> Tensor:
    r"""Times whose logit is normal, from numbers u in (0, 1): most of them lie between data and noise.

    .. math:: t = \operatorname{sigmoid}(\text{location} + \text{scale} \cdot \Phi^{-1}(u))
    """
    return torch.sigmoid(location + scale * torch.special.ndtri(u))


def log_snr(path: Path, t: Tensor) -> Tensor:
    r"""Half the logarithm of the signal-to-noise ratio, falling in t; infinite where alpha or sigma is 0.

    .. math:: \lambda_t = \log \alpha_t - \log \sigma_t
    """
    alpha_t, sigma_t = path(t)
    return torch.log(alpha_t) - torch.log(sigma_t)


def time_of(path: Path, value: Tensor) -> Tensor:
    """The times at which ``log_snr`` is the value, ``[B]``; 0 or 1 for values beyond the path's ends.

    By nested sections, 64 at once, down to the last bit but a few: it needs no more of a path than that it falls.
    """
    ends = value.new_tensor([0.0, 1.0])
    most, least = log_snr(path, ends)
    low, width = torch.zeros_like(value), 1.0
    inner = torch.arange(1, 64, dtype=value.dtype, device=value.device) / 64
    for _ in range(9 if value.dtype == torch.float64 else 4):
        above = log_snr(path, low[:, None] + width * inner) > value[:, None]  # [B, 63]
        width /= 64
        low = low + width * above.sum(1)
    found = low + width / 2
    return torch.where(value <= least, ends[1], torch.where(value >= most, ends[0], found))


def time_grid(steps: int, ticks: int | None = None) -> list[float]:
    """Evenly spaced times from 1 (noise) down to 0 (data), ``steps + 1`` of them.

    Arguments:
        steps: how many steps to take, at least 1.
        ticks: where times are multiples of 1 / ticks (DDPM's T): each is the nearest one; steps <= ticks.

    Raises:
        RequestError: there are no steps, more than ticks, or more than ``MOST_STEPS``.
    """
    _check(steps)
    if ticks is None:
        return [1 - i / steps for i in range(steps + 1)]
    if steps > ticks:
        raise RequestError(f"steps = {steps} is more than this model's T = {ticks}")
    return [round(ticks * (steps - i) / steps) / ticks for i in range(steps + 1)]


def log_snr_grid(steps: int, path: Path, least: float = 0.0) -> list[float]:
    """Times from 1 down to 0 between which the log signal-to-noise ratio rises evenly (DPM-Solver's).

    Where an end of the path lies beyond ``LEAST`` or ``MOST``, one step goes between it and there.

    Arguments:
        steps: how many steps to take, at least 1.
        path: from data to noise.
        least: the least time above 0 that the grid may have: DDPM's network knows none below 1 / T.
    """
    return _grid(steps, path, least, math.log, math.exp)


def karras_grid(steps: int, path: Path, rho: float = 7.0, least: float = 0.0) -> list[float]:
    r"""Times from 1 down to 0 between which a power of sigma / alpha falls evenly.

    .. math:: \frac{\sigma_i}{\alpha_i} = \Big( \sigma_{\max}^{1 / \rho} + \frac{i}{N - 1}
        \big( \sigma_{\min}^{1 / \rho} - \sigma_{\max}^{1 / \rho} \big) \Big)^\rho, \quad t_N = 0

    with ends as in ``log_snr_grid``.

    Arguments:
        steps: N, how many steps to take, at least 1.
        path: from data to noise.
        rho: above 1 for shorter steps near the data.
        least: as in ``log_snr_grid``.
    """
    return _grid(steps, path, least, lambda ratio: ratio ** (1 / rho), lambda power: power**rho)


def grid(kind: Grid, steps: int, path: Path, ticks: int | None = None) -> list[float]:
    """The times of a kind: a field of a model's ``Sampling``.

    Arguments:
        kind: ``even``, ``log-snr`` or ``karras``.
        steps: how many steps to take, at least 1.
        path: from data to noise.
        ticks: DDPM's T: even times are multiples of 1 / T, the others at least 1 / T but for the last.
    """
    if kind == "even":
        return time_grid(steps, ticks)
    if ticks is not None and steps > ticks:
        raise RequestError(f"steps = {steps} is more than this model's T = {ticks}")
    least = 1 / ticks if ticks else 0.0
    return log_snr_grid(steps, path, least) if kind == "log-snr" else karras_grid(steps, path, least=least)


def _check(steps: int) -> None:
    if steps < 1:
        raise RequestError(f"steps = {steps}: samples need at least 1")
    if steps > MOST_STEPS:
        raise RequestError(f"steps = {steps}: take {MOST_STEPS:,} at most")


def _grid(
    steps: int, path: Path, least: float, warp: Callable[[float], float], back: Callable[[float], float]
) -> list[float]:
    """Times between which the warped ratio sigma / alpha is even."""
    _check(steps)
    data, noise = torch.exp(-log_snr(path, torch.tensor([least, 1.0], dtype=torch.float64))).tolist()
    # One step leads from an end that lies beyond the bounds to the bound itself.
    first, last = int(noise > MOST), steps - int(least > 0 or data < LEAST)
    start, end = warp(min(noise, MOST)), warp(max(data, LEAST))
    inner = []
    for i in range(1, steps):
        share = (i - first) / (last - first) if last > first else 0.5
        inner.append(-math.log(back(start + share * (end - start))))
    times = time_of(path, torch.tensor(inner, dtype=torch.float64)).tolist() if inner else []
    return [1.0, *times, 0.0]
