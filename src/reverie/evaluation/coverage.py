r"""How good samples are and how much of the data they cover, by balls around each point that reach its k-th neighbour.

With :math:`B(y)` the ball around y up to its k-th nearest neighbour in its own set, real rows y_j and samples x_i,

.. math::
    \text{precision} &= \tfrac1N \textstyle\sum_i 1[x_i \in \cup_j B(y_j)] \qquad
    \text{recall} = \tfrac1M \sum_j 1[y_j \in \cup_i B(x_i)] \\
    \text{density} &= \tfrac1{kN} \textstyle\sum_i \sum_j 1[x_i \in B(y_j)] \qquad
    \text{coverage} = \tfrac1M \sum_j 1[\exists i: x_i \in B(y_j)]

Density and coverage hold still where one outlier inflates a ball: it can make precision 1 on its own.

References:
    | Improved Precision and Recall Metric for Assessing Generative Models (Kynkäänniemi et al., 2019)
    | https://arxiv.org/abs/1904.06991
    | Reliable Fidelity and Diversity Metrics for Generative Models (Naeem et al., 2020), Equations 3 to 5
    | https://arxiv.org/abs/2002.09797
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from reverie.core.errors import RequestError

BLOCK = 1024


class Coverage(NamedTuple):
    """The four shares; density may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def radii(points: Tensor, k: int) -> Tensor:
    """The distance of each point to its k-th nearest neighbour in its own set, itself left out, ``[N]``."""
    found = []
    for start in range(0, len(points), BLOCK):
        distance = torch.cdist(points[start : start + BLOCK], points)
        places = torch.arange(len(distance))
        distance[places, places + start] = torch.inf
        found.append(distance.kthvalue(k, dim=1).values)
    return torch.cat(found)


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
    real_radii, sample_radii = radii(real, k), radii(samples, k)
    inside, precise = 0, 0
    recalled = torch.zeros(len(real), dtype=torch.bool)
    covered = torch.zeros(len(real), dtype=torch.bool)
    for start in range(0, len(samples), BLOCK):
        distance = torch.cdist(samples[start : start + BLOCK], real)  # [b, M]
        in_real = distance < real_radii
        inside += int(in_real.sum())
        precise += int(in_real.any(1).sum())
        covered |= in_real.any(0)
        recalled |= (distance < sample_radii[start : start + BLOCK, None]).any(0)
    return Coverage(
        precision=precise / len(samples),
        recall=float(recalled.double().mean()),
        density=inside / (k * len(samples)),
        coverage=float(covered.double().mean()),
    )
