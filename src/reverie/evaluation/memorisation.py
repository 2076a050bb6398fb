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
    | Comparing the Areas under Two or More Correlated Receiver Operating Characteristic Curves
    | (DeLong, DeLong and Clarke-Pearson, 1988)
    | https://doi.org/10.2307/2531595
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from reverie.evaluation.figure import Estimate
from reverie.evaluation.intervals import around, of_share


class Memorisation(NamedTuple):
    """The share of pairs in which the sample is nearer, and the probability of so large a share by chance."""

    nearer: Estimate
    p: float


def memorisation(samples: Tensor, held_out: Tensor) -> Memorisation:
    r"""Tests distances to the nearest training row.

    The interval is over redraws of the samples, the held-out rows as they are:
    :math:`\mathrm{Var}\, U = \mathrm{Var}_i \big(\frac1m \sum_j 1[d(x_i) < d(y_j)]\big) / n`.

    Arguments:
        samples: ``[n]``.
        held_out: ``[m]``.
    """
    from scipy.stats import mannwhitneyu  # slow to import, and needed here only

    ours, theirs = samples.double(), held_out.double().sort().values
    found = mannwhitneyu(ours.numpy(), theirs.numpy(), alternative="less")
    below, not_above = (torch.searchsorted(theirs, ours, right=right) for right in (False, True))
    places = 1.0 - (below + not_above).double() / (
        2.0 * len(theirs)
    )  # the share of held-out rows that each sample beats
    error = float(places.std()) / len(places) ** 0.5 if len(places) > 1 else float("nan")
    share = around(float(places.mean()), error, low=0.0)
    if error == 0.0:  # every sample the same way: as many as there are, Wilson's interval
        share = of_share(round(share.value * len(places)), len(places))
    return Memorisation(share._replace(high=None if share.high is None else min(share.high, 1.0)), float(found.pvalue))


def relative_distance(nearest: Tensor, own: Tensor) -> Tensor:
    """Distances to the nearest training rows over those rows' distances to their own nearest neighbours, ``[n]``.

    A row that stands in the training set twice has a neighbour at distance 0: its own scale is then the median's.
    """
    typical = own.median().clamp(min=1e-12)
    return nearest / torch.where(own > 0, own, typical)
