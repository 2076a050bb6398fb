"""The likelihood of discrete values under a Gaussian."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def discretised_gaussian_log_prob(x: Tensor, mean: Tensor, sigma: Tensor, depth: int) -> Tensor:
    r"""The log probability, in nats, that a Gaussian variable falls into the bin of x; the outermost bins are open.

    .. math:: \log P(x) = \log\big(\Phi(b) - \Phi(a)\big), \quad a, b = (x \mp \tfrac{1}{depth - 1} - \mu) / \sigma

    Arguments:
        x: values on the ``depth`` evenly spaced levels of [-1, 1].
        mean: of the Gaussian, shaped like ``x``.
        sigma: its standard deviation.
        depth: how many levels there are (256 for bytes).

    References:
        | Denoising Diffusion Probabilistic Models (Ho, Jain and Abbeel, 2020), Equation 13
        | https://arxiv.org/abs/2006.11239
    """
    half = 1 / (depth - 1)
    lower = torch.where(x < half - 1, -math.inf, (x - half - mean) / sigma)
    upper = torch.where(x > 1 - half, math.inf, (x + half - mean) / sigma)
    # Above the mean both ends are mirrored: a difference of two numbers near 1 would lose its digits.
    mirrored = lower > 0
    lower, upper = torch.where(mirrored, -upper, lower), torch.where(mirrored, -lower, upper)
    log_lower, log_upper = torch.special.log_ndtr(lower), torch.special.log_ndtr(upper)
    return log_upper + torch.log(-torch.expm1(log_lower - log_upper))
