r"""The signal-to-noise ratio of a path: what two paths have in common, whatever they call the time.

.. math:: \text{SNR}_t = \frac{\alpha_t^2}{\sigma_t^2}

References:
    | Variational Diffusion Models (Kingma et al., 2021), Section 3.2 and Section 5.1
    | https://arxiv.org/abs/2107.00630
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reverie.core.capabilities import Path

BISECTIONS = 60  # halvings of [0, 1]: past the last digit of float64


def log_snr(path: Path, t: Tensor) -> Tensor:
    r"""The logarithm of the signal-to-noise ratio, which falls with time; it may be infinite at both ends.

    .. math:: \log \frac{\alpha_t^2}{\sigma_t^2}
    """
    alpha_t, sigma_t = path(t)
    return 2.0 * (torch.log(alpha_t) - torch.log(sigma_t))


@torch.no_grad()
def time_of(path: Path, value: Tensor) -> Tensor:
    """The inverse of ``log_snr``, by bisection: it holds for any path, a learned one too.

    Arguments:
        path: any path.
        value: logarithms of signal-to-noise ratios, of any shape.

    Returns:
        Times in [0, 1], the nearer end for a ratio that the path does not reach; shaped and typed like ``value``.
    """
    wanted = value.double()
    low, high = torch.zeros_like(wanted), torch.ones_like(wanted)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        later = log_snr(path, middle) > wanted
        low, high = torch.where(later, middle, low), torch.where(later, high, middle)
    # Where no time is early (or late) enough, the bisection ends beside 0 (or 1): the end itself is meant.
    eps = 2.0 ** (1 - BISECTIONS)
    t = torch.where(high <= eps, 0.0, torch.where(low >= 1 - eps, 1.0, (low + high) / 2))
    return t.to(value.dtype)


def prior_scale(path: Path) -> float:
    r"""The standard deviation of the noise that sampling starts from, :math:`x_1 \sim N(0, s^2 I)`.

    .. math:: s = \sqrt{\alpha_1^2 + \sigma_1^2}

    It is that of x_1 for rows of unit variance: 1 on paths that keep the variance, whether or not they end in pure
    noise, and sigma_1 to the third digit on those that let it explode.
    """
    with torch.no_grad():
        alpha_1, sigma_1 = path(torch.ones(1, dtype=torch.float64))
    return math.hypot(float(alpha_1), float(sigma_1))
