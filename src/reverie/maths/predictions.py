r"""What a denoising network predicts, and the way from one prediction to another.

With ``x_t = alpha_t x_0 + sigma_t eps``, the six are

.. math:: \epsilon, \qquad x_0, \qquad v = \alpha_t \epsilon - \sigma_t x_0, \qquad u = \epsilon - x_0, \qquad
    s = -\epsilon / \sigma_t, \qquad F = (x_0 - c_\text{skip} x_t) / c_\text{out}

the noise, the clean row, the v of progressive distillation, the velocity of flow matching, the score, and EDM's
preconditioned row. Given x_t, any one of them gives the others; outside a model everybody sees x_0 alone.

References:
    | Denoising Diffusion Probabilistic Models (Ho, Jain and Abbeel, 2020)
    | https://arxiv.org/abs/2006.11239
    | Progressive Distillation for Fast Sampling of Diffusion Models (Salimans and Ho, 2022), Appendix D
    | https://arxiv.org/abs/2202.00512
    | Flow Matching for Generative Modeling (Lipman et al., 2023)
    | https://arxiv.org/abs/2210.02747
    | Generative Modeling by Estimating Gradients of the Data Distribution (Song and Ermon, 2019)
    | https://arxiv.org/abs/1907.05600
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), Table 1
    | https://arxiv.org/abs/2206.00364
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Prediction = Literal["eps", "x0", "v", "velocity", "score", "edm"]

DATA_STD = 0.5
"""EDM's sigma_data, the standard deviation of images in [-1, 1]."""


class Preconditioning(NamedTuple):
    r"""EDM's coefficients, on any path: a network F sees and shows values of unit variance.

    .. math:: \hat x_0 = c_\text{skip} x_t + c_\text{out} F(c_\text{in} x_t), \quad
        m^2 = \alpha_t^2 \sigma_d^2 + \sigma_t^2, \quad c_\text{in} = \frac{1}{m}, \quad
        c_\text{skip} = \frac{\alpha_t \sigma_d^2}{m^2}, \quad c_\text{out} = \frac{\sigma_t \sigma_d}{m}

    At alpha_t = 1 they are those of Table 1; on a path that keeps the variance of rows with sigma_d = 1, F is -v.
    """

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor


def precondition(alpha_t: Tensor, sigma_t: Tensor, data_std: float = DATA_STD) -> Preconditioning:
    """EDM's coefficients for rows of standard deviation ``data_std``, shaped like ``alpha_t``."""
    c_in = torch.rsqrt(alpha_t**2 * data_std**2 + sigma_t**2)
    return Preconditioning(alpha_t * data_std**2 * c_in**2, sigma_t * data_std * c_in, c_in)


def target(
    prediction: Prediction,
    x_0: Tensor,
    eps: Tensor,
    alpha_t: Tensor,
    sigma_t: Tensor,
    data_std: float = DATA_STD,
) -> Tensor:
    """What the network should put out.

    Arguments:
        prediction: which of the six.
        x_0: rows ``[B, ...]``.
        eps: their noise ``[B, ...]``.
        alpha_t: ``[B, 1, ...]``.
        sigma_t: ``[B, 1, ...]``; above 0 for ``score``.
        data_std: sigma_d of ``edm``.
    """
    if prediction == "eps":
        return eps
    if prediction == "x0":
        return x_0
    if prediction == "v":
        return alpha_t * eps - sigma_t * x_0
    if prediction == "score":
        return -eps / sigma_t
    if prediction == "edm":
        # (x_0 - c_skip x_t) / c_out without the difference that loses its digits near the data.
        c_in = precondition(alpha_t, sigma_t, data_std).c_in
        return c_in * (sigma_t / data_std * x_0 - alpha_t * data_std * eps)
    return eps - x_0


def clean(
    prediction: Prediction,
    output: Tensor,
    x_t: Tensor,
    alpha_t: Tensor,
    sigma_t: Tensor,
    data_std: float = DATA_STD,
) -> Tensor:
    """x_0 from a network's output and x_t; ``eps`` and ``score`` need alpha_t > 0."""
    if prediction == "eps":
        return (x_t - sigma_t * output) / alpha_t
    if prediction == "x0":
        return output
    if prediction == "v":
        return (alpha_t * x_t - sigma_t * output) / (alpha_t**2 + sigma_t**2)
    if prediction == "score":
        return (x_t + sigma_t**2 * output) / alpha_t
    if prediction == "edm":
        c = precondition(alpha_t, sigma_t, data_std)
        return c.c_skip * x_t + c.c_out * output
    return (x_t - sigma_t * output) / (alpha_t + sigma_t)


def slope(prediction: Prediction, alpha_t: Tensor, sigma_t: Tensor, data_std: float = DATA_STD) -> Tensor:
    r"""By how much an error of x_0 counts in the prediction: :math:`|d \, \text{prediction} / d x_0|` at fixed x_t.

    It takes a weight of squared errors from one prediction to another; sigma_t > 0 but for ``x0``.
    """
    if prediction == "eps":
        return alpha_t / sigma_t
    if prediction == "x0":
        return torch.ones_like(alpha_t)
    if prediction == "v":
        return (alpha_t**2 + sigma_t**2) / sigma_t
    if prediction == "score":
        return alpha_t / sigma_t**2
    if prediction == "edm":
        return 1 / precondition(alpha_t, sigma_t, data_std).c_out
    return (alpha_t + sigma_t) / sigma_t


def noise(x_0: Tensor, x_t: Tensor, alpha_t: Tensor, sigma_t: Tensor) -> Tensor:
    """eps from x_0 and x_t; 0 where sigma_t is 0, its mean given x_t there."""
    rest = x_t - alpha_t * x_0
    return torch.where(sigma_t > 0, rest / sigma_t.clamp_min(torch.finfo(sigma_t.dtype).tiny), torch.zeros_like(rest))


def convert(
    given: Prediction,
    wanted: Prediction,
    output: Tensor,
    x_t: Tensor,
    alpha_t: Tensor,
    sigma_t: Tensor,
    data_std: float = DATA_STD,
) -> Tensor:
    """One prediction from another, at the same x_t."""
    if given == wanted:
        return output
    x_0 = clean(given, output, x_t, alpha_t, sigma_t, data_std)
    eps = {"eps": output, "score": -sigma_t * output}.get(given)
    if eps is None:
        eps = noise(x_0, x_t, alpha_t, sigma_t)
    return target(wanted, x_0, eps, alpha_t, sigma_t, data_std)
