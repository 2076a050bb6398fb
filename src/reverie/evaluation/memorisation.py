r"""Whether samples lie nearer to training rows than rows of the data that were held out do.

With d the distance to the nearest training row, of n samples and m held-out rows, the share of pairs in which the
sample is nearer,

.. math:: U = \frac{1}{nm} \sum_{i, j} \big( 1[d(x_i) < d(y_j)] + \tfrac12 1[d(x_i) = d(y_j)] \big)

is a half where samples are as new as held-out rows are. The test is that of Mann and Whitney, one-sided.
Samples that are smoother than the data come nearer without being copies: so the distance is divided by that from the
nearest training row to *its* nearest neighbour, which is small where the data are dense and smooth themselves.

References:
    | A Non-Parametric Test to Detect Data-Copying in Generative Models (Meehan et al., 2020), Section 3
    | https://arxiv.org/abs/2004.05675
    | On a Test of Whether one of Two Random Variables is Stochastically Larger than the Other
    | (Mann and Whitney, 1947)
    | https://doi.org/10.1214/aoms/1177730491
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Memorisation(NamedTuple):
    """The share of pairs in which the sample is nearer, and the probability of so large a share by chance."""

    nearer: float
    p: float


def memorisation(samples: Tensor, held_out: Tensor) -> Memorisation:
    """Tests distances to the nearest training row.

    Arguments:
        samples: ``[n]``.
        held_out: ``[m]``.
    """
    from scipy.stats import mannwhitneyu  # slow to import, and needed here only

    found = mannwhitneyu(samples.double().numpy(), held_out.double().numpy(), alternative="less")
    return Memorisation(1.0 - float(found.statistic) / (len(samples) * len(held_out)), float(found.pvalue))


def relative_distance(nearest: Tensor, own: Tensor) -> Tensor:
    """Distances to the nearest training rows over those rows' distances to their own nearest neighbours, ``[n]``.

    A row that stands in the training set twice has a neighbour at distance 0: its own scale is then the median's.
    """
    typical = own.median().clamp(min=1e-12)
    return nearest / torch.where(own > 0, own, typical)
