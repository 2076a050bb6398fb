r"""What a denoising network predicts, and the way from one prediction to another.

With ``x_t = alpha_t x_0 + sigma_t eps``, the four are

.. math:: \epsilon, \qquad x_0, \qquad v = \alpha_t \epsilon - \sigma_t x_0, \qquad u = \epsilon - x_0

the noise, the clean row, the v of progressive distillation and the velocity of flow matching. Given x_t, any
one of them gives the others; outside a model everybody sees x_0 alone.

References:
    | Denoising Diffusion Probabilistic Models (Ho, Jain and Abbeel, 2020)
    | https://arxiv.org/abs/2006.11239
    | Progressive Distillation for Fast Sampling of Diffusion Models (Salimans and Ho, 2022), Appendix D
    | https://arxiv.org/abs/2202.00512
    | Flow Matching for Generative Modeling (Lipman et al., 2023)
    | https://arxiv.org/abs/2210.02747
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["eps", "x0", "v", "velocity"]


def target(prediction: Prediction, x_0: Tensor, eps: Tensor, alpha_t: Tensor, sigma_t: Tensor) -> Tensor:
    """What the network should put out.

    Arguments:
        prediction: which of the four.
        x_0: rows ``[B, ...]``.
        eps: their noise ``[B, ...]``.
        alpha_t: ``[B, 1, ...]``.
        sigma_t: ``[B, 1, ...]``.
    """
    if prediction == "eps":
        return eps
    if prediction == "x0":
        return x_0
    if prediction == "v":
        return alpha_t * eps - sigma_t * x_0
    return eps - x_0


def clean(prediction: Prediction, output: Tensor, x_t: Tensor, alpha_t: Tensor, sigma_t: Tensor) -> Tensor:
    """x_0 from a network's output and x_t; ``eps`` needs alpha_t > 0."""
    if prediction == "eps":
        return (x_t - sigma_t * output) / alpha_t
    if prediction == "x0":
        return output
    if prediction == "v":
        return (alpha_t * x_t - sigma_t * output) / (alpha_t**2 + sigma_t**2)
    return (x_t - sigma_t * output) / (alpha_t + sigma_t)


def noise(x_0: Tensor, x_t: Tensor, alpha_t: Tensor, sigma_t: Tensor) -> Tensor:
    """eps from x_0 and x_t; 0 where sigma_t is 0, its mean given x_t there."""
    rest = x_t - alpha_t * x_0
    return torch.where(sigma_t > 0, rest / sigma_t.clamp_min(torch.finfo(sigma_t.dtype).tiny), torch.zeros_like(rest))


def convert(
    given: Prediction, wanted: Prediction, output: Tensor, x_t: Tensor, alpha_t: Tensor, sigma_t: Tensor
) -> Tensor:
    """One prediction from another, at the same x_t."""
    if given == wanted:
        return output
    x_0 = clean(given, output, x_t, alpha_t, sigma_t)
    eps = output if given == "eps" else noise(x_0, x_t, alpha_t, sigma_t)
    return target(wanted, x_0, eps, alpha_t, sigma_t)
