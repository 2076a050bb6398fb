r"""The Fréchet distance of two sets of features, each taken for a Gaussian.

.. math:: d^2 = \lVert \mu_1 - \mu_2 \rVert^2 + \mathrm{tr}\, \Sigma_1 + \mathrm{tr}\, \Sigma_2
    - 2\, \mathrm{tr} \big(\Sigma_1^{1/2} \Sigma_2 \Sigma_1^{1/2}\big)^{1/2}

The product inside the root is symmetric and positive, so its eigenvalues are real and the distance is right with
fewer rows than features too, where a general matrix square root of :math:`\Sigma_1 \Sigma_2` is not.

References:
    | GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (Heusel et al., 2017)
    | https://arxiv.org/abs/1706.08500
    | The Fréchet distance between multivariate normal distributions (Dowson and Landau, 1982)
    | https://doi.org/10.1016/0047-259X(82)90077-X
"""

from __future__ import annotations

import torch
from torch import Tensor

from reverie.evaluation.moments import Moments


def frechet_distance(one: Moments, two: Moments) -> float:
    """The squared Fréchet distance: what the field calls FID, on whatever features these are."""
    return gaussian_distance(one.mean, one.covariance, two.mean, two.covariance)


def gaussian_distance(mean_1: Tensor, covariance_1: Tensor, mean_2: Tensor, covariance_2: Tensor) -> float:
    """The squared Fréchet distance of two Gaussians; at least 0.

    Arguments:
        mean_1, mean_2: ``[D]``.
        covariance_1, covariance_2: symmetric, ``[D, D]``, of any rank.
    """
    values, vectors = torch.linalg.eigh(covariance_1.double())
    root = vectors * values.clamp(min=0.0).sqrt()  # root @ root.T = covariance_1, and the trace needs no more
    between = torch.linalg.eigvalsh(root.T @ covariance_2.double() @ root).clamp(min=0.0).sqrt().sum()
    apart = (mean_1.double() - mean_2.double()).square().sum()
    distance = apart + covariance_1.double().trace() + covariance_2.double().trace() - 2.0 * between
    return max(0.0, float(distance))
