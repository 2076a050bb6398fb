r"""The Fréchet distance of two sets of features, each taken for a Gaussian.

.. math:: d^2 = \lVert \mu_1 - \mu_2 \rVert^2 + \mathrm{tr}\, \Sigma_1 + \mathrm{tr}\, \Sigma_2
    - 2\, \mathrm{tr} \big(\Sigma_1^{1/2} \Sigma_2 \Sigma_1^{1/2}\big)^{1/2}

The product inside the root is symmetric and positive, so its eigenvalues are real and the distance is right with
fewer rows than features too, where a general matrix square root of :math:`\Sigma_1 \Sigma_2` is not.

Its interval is by the delta method: redrawing the N samples moves the distance by the mean of their influences

.. math:: \mathrm{IF}(x) = 2 (\mu - \mu_r)^\top (x - \mu) + (x - \mu)^\top Q (x - \mu) - \mathrm{tr}\, Q \Sigma,
    \qquad Q = I - T

with T the linear map that takes the samples' Gaussian to the real one. Where the two are nearly alike, influences are
small and mostly noise of their own estimate, which counts the second-order part of the variance twice. The product of
the influences by two halves of the samples has no such noise: the mean of the two variances is right in both cases.

The distance is too large by about c / N. From both halves and the whole, the limit of endlessly many samples is

.. math:: d^2_\infty \approx 2\, d^2_N - \tfrac12 (d^2_{N/2} + d'^2_{N/2})

which leaves only the pairs across the halves, and with them the second-order part of the variance doubled. Either
variance is at least that of the means, :math:`2\, \mathrm{tr}\, \Sigma^2 / N^2` in the second order.

References:
    | GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (Heusel et al., 2017)
    | https://arxiv.org/abs/1706.08500
    | Effectively Unbiased FID and Inception Score and Where to Find Them (Chong and Forsyth, 2020), Section 4
    | https://arxiv.org/abs/1911.07023
    | The Influence Curve and Its Role in Robust Estimation (Hampel, 1974)
    | https://doi.org/10.1080/01621459.1974.10482962
    | The Fréchet distance between multivariate normal distributions (Dowson and Landau, 1982)
    | https://doi.org/10.1016/0047-259X(82)90077-X
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from reverie.evaluation.figure import Estimate
from reverie.evaluation.intervals import around
from reverie.evaluation.moments import Moments


def frechet_distance(one: Moments, two: Moments) -> float:
    """The squared Fréchet distance: what the field calls FID, on whatever features these are."""
    return gaussian_distance(one.mean, one.covariance, two.mean, two.covariance)


class FrechetEstimate(NamedTuple):
    """The distance at the number of samples that there are, and in the limit of endlessly many."""

    distance: Estimate
    limit: Estimate


def frechet_estimate(real: Moments, samples: Moments, features: Tensor) -> FrechetEstimate:
    """The squared Fréchet distance with intervals, over redraws of the samples with the real rows as they are.

    Arguments:
        real: moments of the real rows.
        samples: moments of all samples.
        features: of the samples, or of enough of them to tell how they scatter, ``[n, D]``, in no order, n at least 4.
    """
    root = symmetric_root(real.covariance)
    rows = features.double()
    halves = [_Side.of(Moments(samples.size).add(part), real, root) for part in rows.chunk(2)]
    whole = _Side.of(samples, real, root)
    influences = [side.influence(rows - samples.mean) for side in (whole, *halves)]
    plain = float(influences[0].var())
    alike = min(max(0.0, float((influences[1] * influences[2]).mean())), plain)
    # The mean alone scatters |mu - mu_r|^2 by this much, however little the influences say by chance.
    least = 2.0 * float(samples.covariance.square().sum()) / samples.count**2
    error = max(0.5 * (plain + alike) / samples.count, least) ** 0.5
    kept = whole if samples.count == len(rows) else _Side.of(Moments(samples.size).add(rows), real, root)
    # Each half has n / 2 rows: the bias c / n of the n kept ones, which c / N of all N need not equal.
    bias = 0.5 * sum(side.distance for side in halves) - kept.distance
    limit = whole.distance - bias * len(rows) / samples.count
    return FrechetEstimate(
        around(max(0.0, whole.distance), error, low=0.0),
        around(limit, max(plain / samples.count, 2.0 * least) ** 0.5),
    )


@dataclass(frozen=True)
class _Side:
    """A set of samples against the real rows: the distance, and what an influence is made of."""

    distance: float
    apart: Tensor  # mu - mu_r, [D]
    quadratic: Tensor  # Q, [D, D]

    @classmethod
    def of(cls, samples: Moments, real: Moments, root: Tensor) -> _Side:
        values, vectors = torch.linalg.eigh(root @ samples.covariance @ root)
        values = values.clamp(min=0.0)
        apart = samples.mean - real.mean
        traces = samples.covariance.trace() + real.covariance.trace()
        distance = float(apart.square().sum() + traces - 2.0 * values.sqrt().sum())
        inside = values > 1e-10 * values.max()  # directions that either side lacks have no map
        inverse = torch.where(inside, values.clamp(min=1e-300).rsqrt(), 0.0)
        transport = root @ ((vectors * inverse) @ vectors.T) @ root
        return cls(distance, apart, torch.eye(samples.size, dtype=torch.float64) - transport)

    def influence(self, centred: Tensor) -> Tensor:
        """IF of rows ``[n, D]`` less their mean, itself centred, ``[n]``."""
        found = 2.0 * (centred @ self.apart) + ((centred @ self.quadratic) * centred).sum(1)
        return found - found.mean()


def symmetric_root(covariance: Tensor) -> Tensor:
    """The symmetric square root of a covariance ``[D, D]``."""
    values, vectors = torch.linalg.eigh(covariance.double())
    return (vectors * values.clamp(min=0.0).sqrt()) @ vectors.T


def gaussian_distance(mean_1: Tensor, covariance_1: Tensor, mean_2: Tensor, covariance_2: Tensor) -> float:
    """The squared Fréchet distance of two Gaussians; at least 0.

    Arguments:
        mean_1, mean_2: ``[D]``.
        covariance_1, covariance_2: symmetric, ``[D, D]``, of any rank.
    """
    one, two = covariance_1.double(), covariance_2.double()
    between = _product_values(one, two).clamp(min=0.0).sqrt().sum()
    apart = (mean_1.double() - mean_2.double()).square().sum()
    distance = apart + one.trace() + two.trace() - 2.0 * between
    return max(0.0, float(distance))


def _product_values(one: Tensor, two: Tensor) -> Tensor:
    """The eigenvalues of the product of two covariances ``[D, D]`` that are not 0 by their ranks."""
    from scipy.linalg import LinAlgError, eigh  # slow to import, and needed here only

    for a, b in ((one, two), (two, one)):
        try:
            # L^T A L with B = L L^T: a sixteenth of the price of a general matrix root.
            return torch.from_numpy(eigh(a.numpy(), b.numpy(), type=2, eigvals_only=True, driver="gv"))
        except LinAlgError:  # B is not of full rank
            continue
    values, vectors = torch.linalg.eigh(one)
    kept = values > 1e-12 * values[-1].clamp(min=1e-300)
    root = vectors[:, kept] * values[kept].sqrt()  # [D, rank]
    return torch.linalg.eigvalsh(root.T @ two @ root)
