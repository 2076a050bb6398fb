r"""What a student of few steps is trained on: its target, the weight of its errors, and when.

References:
    | Progressive Distillation for Fast Sampling of Diffusion Models (Salimans and Ho, 2022), Algorithm 2
    | https://arxiv.org/abs/2202.00512
    | Improving the Training of Rectified Flows (Lee, Lin and Fanti, 2024), Section 4
    | https://arxiv.org/abs/2405.20320
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def target_of_step(
    x_t: Tensor, x_s: Tensor, alpha_t: Tensor, sigma_t: Tensor, alpha_s: Tensor, sigma_s: Tensor
) -> Tensor:
    r"""The estimate of x_0 with which DDIM goes from x_t to x_s in one step (Algorithm 2).

    .. math:: \tilde x = \frac{x_s - (\sigma_s / \sigma_t) x_t}{\alpha_s - (\sigma_s / \sigma_t) \alpha_t}

    Arguments:
        x_t: where the step starts, ``[B, ...]``.
        x_s: where it should end, with less noise, ``[B, ...]``.
        alpha_t, sigma_t, alpha_s, sigma_s: the path at both ends, ``[B, 1, ...]``; sigma_t > 0.
    """
    ratio = sigma_s / sigma_t
    return (x_s - ratio * x_t) / (alpha_s - ratio * alpha_t)


def truncated_snr(alpha_t: Tensor, sigma_t: Tensor) -> Tensor:
    r"""The weight of a squared error of x_0: that of eps, but never less than that of x_0 itself (Section 4).

    .. math:: w = \max(\alpha_t^2 / \sigma_t^2, 1)
    """
    return (alpha_t / sigma_t).square().clamp_min(1.0)


def towards_both_ends(u: Tensor, a: float = 4.0) -> Tensor:
    r"""Times from numbers u in (0, 1), most of them near 0 and near 1, where a reflow's lines are hardest to tell.

    .. math:: p(t) \propto e^{a t} + e^{a (1 - t)}, \quad
        t = \tfrac12 + \tfrac1a \operatorname{arsinh}\big( (2 u - 1) \sinh \tfrac a2 \big)
    """
    return 0.5 + torch.asinh((2 * u - 1) * math.sinh(a / 2)) / a
