r"""How good samples are and how much of the data they cover, by balls around each point that reach its k-th neighbour.

With :math:`B(y)` the ball around y up to its k-th nearest neighbour in its own set, real rows y_j and samples x_i,

.. math::
    \text{precision} &= \tfrac1N \textstyle\sum_i 1[x_i \in \cup_j B(y_j)] \qquad
    \text{recall} = \tfrac1M \sum_j 1[y_j \in \cup_i B(x_i)] \\
    \text{density} &= \tfrac1{kN} \textstyle\sum_i \sum_j 1[x_i \in B(y_j)] \qquad
    \text{coverage} = \tfrac1M \sum_j 1[\exists i: x_i \in B(y_j)]

Density and coverage hold still where one outlier inflates a ball: it can make precision 1 on its own.

Intervals are over redraws of the samples. Precision and density are means over samples. Coverage and recall are shares
of real rows that some sample reaches. Taking their number for a Poisson one, such a share's variance, from
:math:`u_S` rows that are reached by just the samples S, is

.. math:: \mathrm{Var} \approx \frac1{M^2} \sum_{S \neq \emptyset} (-1)^{|S| + 1} u_S^2 - \frac{f_1^2}{n}, \qquad
    f_1 = \frac1M \sum_{|S| = 1} u_S

an alternating sum, taken to its second term with half the weight (Euler's summation).

References:
    | Improved Precision and Recall Metric for Assessing Generative Models (Kynkäänniemi et al., 2019)
    | https://arxiv.org/abs/1904.06991
    | Reliable Fidelity and Diversity Metrics for Generative Models (Naeem et al., 2020), Equations 3 to 5
    | https://arxiv.org/abs/2002.09797
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reverie.core.errors import RequestError
from reverie.evaluation.figure import Estimate
from reverie.evaluation.intervals import around, of_mean, of_share

BLOCK = 1024


class Coverage(NamedTuple):
    """The four shares; density may exceed 1."""

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


class _Hits:
    """Who reaches each real row: how many samples, and, where there are one or two, which.

    Arguments:
        rows: M.
    """

    def __init__(self, rows: int) -> None:
        self.sums = torch.zeros(rows, 3, dtype=torch.float64)  # of 1, i and i^2 over the samples i that reach a row

    def add(self, reached: Tensor, start: int) -> None:
        """Takes in samples ``start`` to ``start + b - 1``, bool ``[b, M]``."""
        # Rows that one or two samples reach are told by these sums, exactly in float32; of others the count is enough.
        places = torch.arange(1, len(reached) + 1, dtype=torch.float32)
        powers = torch.stack([torch.ones_like(places), places, places.square()], 1)
        count, first, second = (reached.T.float() @ powers).T.double()
        self.sums += torch.stack([count, start * count + first, start**2 * count + 2 * start * first + second], 1)

    def share(self, samples: int) -> Estimate:
        """The share of rows that are reached at all."""
        count = self.sums[:, 0]
        rows = len(count)
        squares, sets = [], 0
        for size in (1, 2):
            alike = torch.unique(self.sums[count == size], dim=0, return_counts=True)[1].double()
            squares.append(float(alike.square().sum()))
            sets += len(alike)
        alone = float((count == 1).double().mean())
        variance = max((squares[0] - 0.5 * squares[1]) / rows**2, 0.3 * squares[0] / rows**2) - alone**2 / samples
        value = float((count > 0).double().mean())
        if variance <= 0.0:  # no sample reaches a row alone, or none any: nothing to tell a spread from
            return of_share(round(value * min(rows, samples)), min(rows, samples))
        found = around(value, variance**0.5, max(sets - 1, 1), low=0.0)
        return found._replace(high=min(1.0, found.high or value))


def squared_distances(x: Tensor, y: Tensor, center: Tensor) -> Tensor:
    """|x|^2 + |y|^2 - 2 x.y with both about a centre, ``[B, M]``, at least 0, in the rows' own precision.

    Distances do not depend on the centre; about the data's mean the terms that cancel are small.
    """
    # In NumPy: its product suits any processor, and its threads and torch's, taken in turns, wait for each other.
    one, two, middle = x.numpy() - center.numpy(), y.numpy(), center.numpy()
    found = np.empty((len(one), len(two)), one.dtype)
    for start in range(0, len(two), BLOCK):  # a copy of a part, never of all
        part, tile = two[start : start + BLOCK] - middle, found[:, start : start + BLOCK]
        np.matmul(one, part.T, out=tile)
        tile *= -2.0
        tile += np.einsum("ij,ij->i", part, part)
    found += np.einsum("ij,ij->i", one, one)[:, None]
    return torch.from_numpy(np.maximum(found, 0.0, out=found))


def squared_radii(points: Tensor, center: Tensor, k: int) -> Tensor:
    """The squared distance of each point to its k-th nearest neighbour in its own set, itself left out, ``[N]``.

    Each pair is computed once, and serves both.
    """
    best = points.new_full((len(points), k), torch.inf)
    for start in range(0, len(points), BLOCK):
        rows = points[start : start + BLOCK]
        stop = start + len(rows)
        square = squared_distances(rows, points[start:], center)
        square.diagonal().fill_(torch.inf)
        best[start:stop] = _smallest(best[start:stop], square, k)
        best[stop:] = _smallest(best[stop:], square[:, len(rows) :].T, k)
    return best[:, -1]


def _smallest(best: Tensor, found: Tensor, k: int) -> Tensor:
    """The k smallest of each row of both, in order."""
    few = found.topk(min(k, found.shape[1]), dim=1, largest=False).values  # ten times as fast as kthvalue
    return torch.cat([best, few], dim=1).topk(k, dim=1, largest=False).values


def coverage(real: Tensor, samples: Tensor, k: int = 5) -> Coverage:
    """Measures samples against real rows.

    Arguments:
        real: features ``[M, D]``.
        samples: features ``[N, D]``; N = M for figures that others can compare with.
        k: which neighbour sets a ball's radius.

    Raises:
        RequestError: there are not more than k rows on a side.
    """
    if min(len(real), len(samples)) <= k:
        raise RequestError(f"coverage needs more than {k} rows on each side, not {len(real)} and {len(samples)}")
    center = real.mean(0)
    real_radii, sample_radii = squared_radii(real, center, k), squared_radii(samples, center, k)
    within: list[Tensor] = []
    covered, recalled = _Hits(len(real)), _Hits(len(real))
    for start in range(0, len(samples), BLOCK):
        square = squared_distances(samples[start : start + BLOCK], real, center)  # [b, M]
        in_real = square < real_radii
        within.append(in_real.sum(1))
        covered.add(in_real, start)
        recalled.add(square < sample_radii[start : start + BLOCK, None], start)
    balls = torch.cat(within)  # of real rows, that each sample lies in
    density = of_mean(balls.double() / k)
    density = density._replace(low=None if density.low is None else max(0.0, density.low))
    if not balls.any():
        density = density._replace(high=of_share(0, len(samples)).high)
    return Coverage(
        precision=of_share(int((balls > 0).sum()), len(samples)),
        recall=recalled.share(len(samples)),
        density=density,
        coverage=covered.share(len(samples)),
    )
