r"""How the classes of samples are spread, against those of the data: modes that are missing, modes that crowd.

.. math:: KL(q, p) = \sum_k q_k \log \frac{q_k}{p_k}

with q the shares of the classes among samples and p those among the data. Where all is well its expectation is about
(K - 1) / 2N, not 0: its floor says so.

References:
    | VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational Learning (Srivastava et al., 2017), Section 5
    | https://arxiv.org/abs/1705.07761
    | PacGAN: The power of two samples in generative adversarial networks (Lin et al., 2018), Section 4.1
    | https://arxiv.org/abs/1712.04086
    | Do GANs learn the distribution? Some Theory and Empirics (Arora, Risteski and Zhang, 2018), Section 2
    | https://openreview.net/forum?id=BJehNfW0-
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from reverie.evaluation.figure import Estimate
from reverie.evaluation.intervals import around


class Reached(NamedTuple):
    """How many samples are good, and how many modes have a good one."""

    good: int
    reached: int


def good_and_reached(points: Tensor, centres: Tensor, sigma: float) -> Reached:
    """Counts points within three sigma of a centre; in the plane, 98.9 % of a Gaussian's own points are.

    Arguments:
        points: ``[N, D]``.
        centres: ``[K, D]``.
        sigma: of each mode.
    """
    near = torch.cdist(points.double(), centres.double()).min(1)
    good = near.values <= 3.0 * sigma
    return Reached(int(good.sum()), len(near.indices[good].unique()))


def divergence_of_shares(counts: Tensor, shares: Tensor) -> Estimate:
    r"""KL(q, p) of the classes of rows from known shares, with the interval of its expectation at this count.

    By the delta method, :math:`N\, \mathrm{Var} \approx \mathrm{Var}_q \log (q / p)`, or, where that is less, the
    second-order part, :math:`(K - 1) / 2 N^2`, which is all there is where q = p.

    Arguments:
        counts: how many rows fell to each class, ``[K]``.
        shares: p, ``[K]``, positive where there are counts.
    """
    total = float(counts.sum())
    q = counts.double() / total
    there = q > 0
    logs = torch.zeros_like(q)
    logs[there] = (q[there] / shares.double()[there]).log()
    value = float((q * logs).sum())
    first = float((q * (logs - value).square()).sum()) / total
    # The plug-in of the first part is twice the second part where q = p: the interval is then too wide by a half at
    # most. To take that off would leave it too narrow where q is near p.
    second = max(int((shares > 0).sum()) - 1, 1) / (2 * total**2)
    return around(value, max(first, second) ** 0.5, low=0.0)


def support_size(twins: Tensor) -> Estimate:
    r"""The birthday paradox: how many different rows a model can draw, if all are as likely.

    Two draws of M rows are the same with probability 1 / M, so :math:`M \approx` pairs / duplicates. The paper's form,
    :math:`M \approx s^2 / 2 \ln 2` with s the size at which half of all batches hold a duplicate, is the same count.

    Pairs that share a draw are not independent: where some rows are likelier than others the count of duplicates varies
    more than a Poisson count. Its variance as a U-statistic says of how many independent duplicates it is worth.

    Arguments:
        twins: for each draw, how many of the others are the same, ``[N]``.
    """
    from scipy.stats import chi2  # slow to import, and needed here only

    count = len(twins)
    pairs, duplicates = count * (count - 1) / 2, float(twins.sum()) / 2
    share = twins.double() / (count - 1)
    p = duplicates / pairs
    uneven = max(float(share.var()) - p / (count - 1), 0.0)  # what chance alone would give is in the second part
    variance = 4.0 * uneven / count + p / pairs
    worth = p**2 / variance if duplicates else 0.0
    most = float(chi2.ppf(0.975, 2 * worth + 2)) / 2.0
    least = float(chi2.ppf(0.025, 2 * worth)) / 2.0 if worth else 0.0
    per = p / worth if worth else 1.0 / pairs  # a duplicate's part of the probability
    low, high = max(1.0, 1.0 / (per * most)), 1.0 / (per * least) if least else None
    return Estimate(1.0 / p if p else low, low, high)  # without a duplicate there is a bound, and no estimate
