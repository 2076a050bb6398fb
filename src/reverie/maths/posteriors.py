r"""Posteriors of diffusion: what is believed of x_0 given x_t, and of x_s given x_t and x_0.

References:
    | Denoising Diffusion Probabilistic Models (Ho, Jain and Abbeel, 2020), Equations 6 and 7
    | https://arxiv.org/abs/2006.11239
    | Variational Diffusion Models (Kingma et al., 2021), Appendix A
    | https://arxiv.org/abs/2107.00630
    | Improved Denoising Diffusion Probabilistic Models (Nichol and Dhariwal, 2021), Equation 15
    | https://arxiv.org/abs/2102.09672
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from reverie.core.capabilities import Path, Posterior
from reverie.core.space import Space
from reverie.maths.densities import gaussian_log_prob
from reverie.maths.paths import per_row


@dataclass(frozen=True)
class Dirac:
    """A posterior of which only the mean is known.

    Arguments:
        mean: E[x_0 | x_t], ``[B, ...]``.
    """

    mean: Tensor


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian posterior.

    Arguments:
        mean: E[x_0 | x_t], ``[B, D]``.
        covariance: Cov[x_0 | x_t], ``[B, D, D]``.
    """

    mean: Tensor
    covariance: Tensor


@dataclass(frozen=True)
class LearnedStep:
    """A posterior of which the mean is known, with the variance of the next step of the chain.

    What wraps a denoiser and changes its mean keeps the variance: see ``moved``.

    Arguments:
        mean: E[x_0 | x_t], ``[B, ...]``.
        step_variance: how far from beta-tilde (0) to beta (1) the logarithm of the variance is, ``[B, ...]``:
            see ``Backward.between``.
    """

    mean: Tensor
    step_variance: Tensor


def moved(posterior: Posterior, mean: Tensor) -> Dirac | LearnedStep:
    """A posterior with another mean ``[B, ...]``: the variance of a learned step stays, a covariance does not."""
    return replace(posterior, mean=mean) if isinstance(posterior, LearnedStep) else Dirac(mean)


class Backward(NamedTuple):
    r"""The Gaussian q(x_s | x_t, x_0) for s < t, by its coefficients, each ``[B]``.

    .. math:: q(x_s | x_t, x_0) = N(x_s; a x_t + b x_0, v I)

    Arguments:
        a: weight of x_t.
        b: weight of x_0.
        variance: v; DDPM's beta-tilde.
        fresh: the variance of x_t given x_s; DDPM's beta.
    """

    a: Tensor
    b: Tensor
    variance: Tensor
    fresh: Tensor

    def between(self, share: Tensor) -> Tensor:
        r"""A learned variance, ``[B, ...]``; 0 where beta-tilde is 0, at s = 0, unless the share is 1.

        .. math:: \exp( \nu \log \beta + (1 - \nu) \log \tilde\beta )

        Arguments:
            share: nu, 0 to 1, ``[B, ...]``.
        """
        return per_row(self.fresh, share) ** share * per_row(self.variance, share) ** (1 - share)


def backward(path: Path, t: Tensor, s: Tensor) -> Backward:
    r"""q(x_s | x_t, x_0) by Bayes' rule, for any path and any 0 <= s < t <= 1 (Equation 7).

    .. math:: c = 1 - \frac{\alpha_t^2 \sigma_s^2}{\alpha_s^2 \sigma_t^2}, \quad
        a = \frac{\alpha_t \sigma_s^2}{\alpha_s \sigma_t^2}, \quad b = \alpha_s c, \quad
        v = \sigma_s^2 c, \quad \beta = \sigma_t^2 c
    """
    alpha_t, sigma_t = path(t)
    alpha_s, sigma_s = path(s)
    # c is 1e-2 and less between neighbours: from logarithms, it keeps its digits in float32.
    c = -torch.expm1(2 * (torch.log(alpha_t / sigma_t) - torch.log(alpha_s / sigma_s)))
    return Backward(
        a=alpha_t * sigma_s**2 / (alpha_s * sigma_t**2), b=alpha_s * c, variance=sigma_s**2 * c, fresh=sigma_t**2 * c
    )


class GaussianData:
    r"""Creates the exact denoiser of Gaussian data, a known answer for every solver.

    .. math:: E[x_0 | x_t] = m + \alpha_t C (\alpha_t^2 C + \sigma_t^2 I)^{-1} (x_t - \alpha_t m)

    Arguments:
        path: from data to noise.
        mean: m, ``[D]``.
        covariance: C, ``[D, D]``, positive definite.
    """

    def __init__(self, path: Path, mean: Tensor, covariance: Tensor) -> None:
        self.path = path
        self.space = Space(shape=(len(mean),))
        self.mean = mean
        self.covariance = covariance
        self._variances, self._axes = torch.linalg.eigh(covariance)

    def denoise(self, x_t: Tensor, t: Tensor, condition: object = None) -> Gaussian:
        alpha_t, sigma_t = (per_row(a, x_t) for a in self.path(t))
        marginal = alpha_t**2 * self._variances + sigma_t**2  # [B, D]
        centred = (x_t - alpha_t * self.mean) @ self._axes
        mean = self.mean + (alpha_t * self._variances / marginal * centred) @ self._axes.T
        covariance = (self._axes * (self._variances * sigma_t**2 / marginal)[:, None]) @ self._axes.T
        return Gaussian(mean, covariance)

    def log_marginal(self, x_t: Tensor, t: Tensor) -> Tensor:
        """log p(x_t) in nats, ``[B]``."""
        alpha_t, sigma_t = (per_row(a, x_t) for a in self.path(t))
        marginal = alpha_t**2 * self._variances + sigma_t**2  # [B, D]
        centred = (x_t - alpha_t * self.mean) @ self._axes
        return gaussian_log_prob(centred, torch.zeros_like(centred), torch.log(marginal) / 2).sum(1)

    def enter(self, x: Tensor) -> Tensor:
        return x

    def leave(self, z: Tensor) -> Tensor:
        return z


class GaussianMixtureData:
    r"""Creates the exact denoiser of a mixture of Gaussians, a known answer that is not linear in x_t.

    .. math:: E[x_0 | x_t] = \sum_k p(k | x_t) E[x_0 | x_t, k], \quad
        p(k | x_t) \propto w_k N(x_t; \alpha_t m_k, \alpha_t^2 C_k + \sigma_t^2 I)

    Arguments:
        path: from data to noise.
        weights: w, ``[K]``, summing to 1.
        means: m, ``[K, D]``.
        covariances: C, ``[K, D, D]``, positive definite.
    """

    def __init__(self, path: Path, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        self.path = path
        self.space = Space(shape=(means.shape[1],))
        self.weights = weights
        self.means = means
        self._parts = [
            GaussianData(path, mean, covariance) for mean, covariance in zip(means, covariances, strict=True)
        ]

    def denoise(self, x_t: Tensor, t: Tensor, condition: object = None) -> Gaussian:
        posteriors = [part.denoise(x_t, t) for part in self._parts]
        evidence = torch.stack([part.log_marginal(x_t, t) for part in self._parts], 1)
        shares = torch.softmax(evidence + torch.log(self.weights), 1)[..., None]  # [B, K, 1]
        means = torch.stack([posterior.mean for posterior in posteriors], 1)
        covariances = torch.stack([posterior.covariance for posterior in posteriors], 1)
        mean = (shares * means).sum(1)
        spread = means - mean[:, None]
        within = covariances + spread[..., :, None] * spread[..., None, :]  # [B, K, D, D]
        return Gaussian(mean, (shares[..., None] * within).sum(1))

    def enter(self, x: Tensor) -> Tensor:
        return x

    def leave(self, z: Tensor) -> Tensor:
        return z
