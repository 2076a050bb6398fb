r"""The arithmetic of consistency models: noise levels, how many of them, which to train at, and the distance.

A consistency function takes any point of a flow to the flow's end, ``f(x, sigma) = x_{sigma_min}``, where
``x = x_0 + sigma eps``. At the end itself it is the identity, whatever the network says:

.. math:: f(x, \sigma) = c_\text{skip} x + c_\text{out} F(x, \sigma), \quad
    c_\text{skip}(\sigma_\min) = 1, \quad c_\text{out}(\sigma_\min) = 0

References:
    | Consistency Models (Song, Dhariwal, Chen and Sutskever, 2023)
    | https://arxiv.org/abs/2303.01469
    | Improved Techniques for Training Consistency Models (Song and Dhariwal, 2024)
    | https://arxiv.org/abs/2310.14189
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022)
    | https://arxiv.org/abs/2206.00364
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def noise_levels(count: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    r"""Rising noise levels, float64 ``[count]``, close together where there is little noise (Karras, Equation 5).

    .. math:: \sigma_i = \Big( \sigma_\min^{1/\rho} + \frac{i - 1}{N - 1}
        \big( \sigma_\max^{1/\rho} - \sigma_\min^{1/\rho} \big) \Big)^\rho
    """
    ends = (sigma_min ** (1 / rho), sigma_max ** (1 / rho))
    return torch.linspace(*ends, count, dtype=torch.float64) ** rho


def curriculum(fraction: float, first: int, last: int) -> int:
    r"""How many intervals there are at a fraction of the training: they double at even times.

    .. math:: \min(s_0 2^{\lfloor k / K' \rfloor}, s_1), \quad K' = K / (\lfloor \log_2 (s_1 / s_0) \rfloor + 1)

    (Song and Dhariwal, Section 3.4; the paper's N has one more, since it counts the levels between which they lie.)

    Arguments:
        fraction: k / K, in [0, 1].
        first: s_0.
        last: s_1, at least s_0.
    """
    stages = math.floor(math.log2(last / first)) + 1
    return min(first * 2 ** min(math.floor(fraction * stages), stages), last)


def lognormal_shares(levels: Tensor, location: float = -1.1, scale: float = 2.0) -> Tensor:
    r"""How often each interval between neighbouring levels is trained, ``[len(levels) - 1]``, summing to 1.

    .. math:: p(i) \propto \operatorname{erf} \frac{\log \sigma_{i+1} - P_\text{mean}}{\sqrt 2 P_\text{std}}
        - \operatorname{erf} \frac{\log \sigma_i - P_\text{mean}}{\sqrt 2 P_\text{std}}

    (Song and Dhariwal, Section 3.5): the logarithm of the noise is normal, cut to the levels there are.
    """
    edges = torch.erf((torch.log(levels) - location) / (math.sqrt(2.0) * scale))
    shares = edges.diff()
    return shares / shares.sum()


def pick(u: Tensor, shares: Tensor) -> Tensor:
    """The index that each number u in (0, 1) stands for, where index i has the share ``shares[i]``."""
    edges = shares.cumsum(0).to(u.device)
    return torch.searchsorted(edges, u.to(edges.dtype) * edges[-1], right=True).clamp(max=len(shares) - 1)


def pseudo_huber(a: Tensor, b: Tensor) -> Tensor:
    r"""The distance of rows, ``[B]``: squared where they are close, their plain distance where they are far.

    .. math:: d(a, b) = \sqrt{\lVert a - b \rVert^2 + c^2} - c, \quad c = 0.00054 \sqrt D

    (Song and Dhariwal, Section 3.3.) A row that is far off pulls no harder than one that is near.
    """
    c = 0.00054 * math.sqrt(a[0].numel())
    return torch.sqrt((a - b).flatten(1).square().sum(1) + c**2) - c


def squared(a: Tensor, b: Tensor) -> Tensor:
    """The squared distance of rows, ``[B]``."""
    return (a - b).flatten(1).square().sum(1)


def to_the_end(mean: Tensor, x: Tensor, sigma: Tensor, sigma_min: float) -> Tensor:
    r"""A consistency function from a denoiser: all the way to sigma_min in one step of Euler's along its slope.

    .. math:: f(x, \sigma) = x + (\sigma_\min - \sigma) \frac{x - D(x, \sigma)}{\sigma}
        = \frac{\sigma_\min}{\sigma} x + \Big(1 - \frac{\sigma_\min}{\sigma}\Big) D(x, \sigma)

    So any denoiser becomes one whose boundary condition holds. With EDM's
    :math:`D = c_\text{skip} x + c_\text{out} F` the factor of F is the one of the paper (Appendix C),
    :math:`\sigma_d (\sigma - \sigma_\min) / \sqrt{\sigma_d^2 + \sigma^2}`, and the factor of x differs from the
    paper's by less than :math:`\sigma_\min / \sigma_d`.

    Arguments:
        mean: D(x, sigma), ``[B, ...]``.
        x: x_0 + sigma eps, ``[B, ...]``.
        sigma: ``[B, 1, ...]``, at least sigma_min.
        sigma_min: where the flow ends.
    """
    kept = sigma_min / sigma
    return kept * x + (1 - kept) * mean
