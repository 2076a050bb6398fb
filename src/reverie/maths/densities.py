r"""Densities of pixels and latents, in nats, one number for each value: sum over a row for the row's own.

References:
    | Auto-Encoding Variational Bayes (Kingma and Welling, 2013)
    | https://arxiv.org/abs/1312.6114
    | PixelCNN++ (Salimans, Karpathy, Chen and Kingma, 2017)
    | https://arxiv.org/abs/1701.05517
    | A note on the evaluation of generative models (Theis, van den Oord and Bethge, 2015)
    | https://arxiv.org/abs/1511.01844
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_TWO_PI = math.log(2.0 * math.pi)


def gaussian_log_prob(x: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    r"""The log density of a Gaussian.

    .. math:: \log N(x; \mu, \sigma^2) = -\tfrac12 \big(((x - \mu) / \sigma)^2 + 2 \log \sigma + \log 2 \pi\big)
    """
    return -0.5 * (((x - mean) * torch.exp(-log_sigma)).square() + 2.0 * log_sigma + LOG_TWO_PI)


def gaussian_kl(
    mean: Tensor, log_sigma: Tensor, prior_mean: Tensor | float = 0.0, prior_log_sigma: Tensor | float = 0.0
) -> Tensor:
    r"""The Kullback-Leibler divergence of a Gaussian from another, the standard normal where none is given.

    .. math:: KL(q, p) = \log \frac{\sigma_p}{\sigma_q} + \frac{\sigma_q^2 + (\mu_q - \mu_p)^2}{2 \sigma_p^2} - \frac12
    """
    ratio = log_sigma - prior_log_sigma
    distance = (mean - prior_mean) * torch.exp(-torch.as_tensor(prior_log_sigma))
    return 0.5 * (torch.exp(2.0 * ratio) + distance.square() - 1.0) - ratio


def bernoulli_log_prob(x: Tensor, logits: Tensor) -> Tensor:
    r"""The log probability of binary values -1 and 1 under :math:`P(x = 1) = \mathrm{sigmoid}(logit)`."""
    return F.logsigmoid(x * logits)


def discretised_logistic_log_prob(x: Tensor, mean: Tensor, log_scale: Tensor, depth: int) -> Tensor:
    r"""The log probability that a logistic variable falls into the bin of x; the outermost bins are open.

    .. math::
        \log P(x) = \log\big(\mathrm{sigmoid}(b) - \mathrm{sigmoid}(a)\big), \quad
        a, b = (x \mp \tfrac{1}{depth - 1} - \mu) / s

    The difference is exact at any distance from the mean, since
    :math:`\mathrm{sigmoid}(b) - \mathrm{sigmoid}(a) = \mathrm{sigmoid}(b) \, \mathrm{sigmoid}(-a) \, (1 - e^{a - b})`.

    Arguments:
        x: values on the ``depth`` evenly spaced levels of [-1, 1].
        mean: of the logistic, shaped like ``x``.
        log_scale: the logarithm of its scale s.
        depth: how many levels there are (256 for bytes).
    """
    half = 1.0 / (depth - 1)
    inverse = torch.exp(-log_scale)
    below = F.logsigmoid((x + half - mean) * inverse)  # log sigmoid(b)
    above = F.logsigmoid((mean - x + half) * inverse)  # log sigmoid(-a)
    width = (2.0 * half) * inverse  # b - a
    inside = below + above + torch.log(-torch.expm1(-width))
    return torch.where(x <= half - 1.0, below, torch.where(x >= 1.0 - half, above, inside))


def cut_logistic_mean(mean: Tensor, log_scale: Tensor) -> Tensor:
    r"""The mean of a logistic variable cut to [-1, 1], which differs from its own mean where a tail lies outside.

    .. math:: E[\min(\max(X, -1), 1)] = -1 + \int_{-1}^1 P(X > t)\, dt = -1 + s\, \Big(\mathrm{softplus}\,
        \frac{\mu + 1}{s} - \mathrm{softplus}\, \frac{\mu - 1}{s}\Big)

    It is the mean of the levels of ``discretised_logistic_log_prob``, to less than half a bin.
    """
    scale = torch.exp(log_scale)
    return scale * (F.softplus((mean + 1.0) / scale) - F.softplus((mean - 1.0) / scale)) - 1.0


def logistic_quantile(u: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """The value below which a logistic variable falls with probability ``u`` in (0, 1): samples from uniforms."""
    return mean + torch.exp(log_scale) * (torch.log(u) - torch.log1p(-u))


def snap(x: Tensor, depth: int) -> Tensor:
    """The nearest of the ``depth`` evenly spaced levels of [-1, 1]."""
    steps = (depth - 1) / 2.0
    return (x.clamp(-1.0, 1.0) + 1.0).mul(steps).round().div(steps) - 1.0


def dequantise(x: Tensor, u: Tensor, depth: int) -> Tensor:
    """Spreads each of the ``depth`` levels of [-1, 1] evenly over its bin, of width 2 / (depth - 1).

    Arguments:
        x: values on the levels.
        u: uniform on [0, 1), shaped like ``x``.
        depth: how many levels there are.
    """
    return x + (2.0 * u - 1.0) / (depth - 1)


def log_bin(depth: int) -> float:
    r"""The logarithm of a bin's width: what turns a density into a bound of the probability of a level.

    .. math:: \log P(x) \ge E_u \log p(x + u) + \log \frac{2}{depth - 1}
    """
    return math.log(2.0 / (depth - 1))


def bits_per_dim(nats: Tensor, size: int) -> Tensor:
    r"""Bits per dimension from log probabilities in nats: :math:`-\log_2 P / size`."""
    return -nats / (size * math.log(2.0))
