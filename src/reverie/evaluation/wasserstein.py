r"""Wasserstein distances of two sets of points: exact for a few, and averaged over lines for many.

.. math:: W_p^p = \min_\pi \frac1n \sum_i \lVert x_i - y_{\pi(i)} \rVert^p, \qquad
    SW_p^p = E_{\theta} W_p^p(\theta^\top x, \theta^\top y)

On a line the best assignment is by order. Both are biased upwards at few points, in high dimensions by much: only their
floors make them readable.

References:
    | Sliced and Radon Wasserstein Barycenters of Measures (Bonneel, Rabin, Peyré and Pfister, 2015), Section 3
    | https://doi.org/10.1007/s10851-014-0506-3
    | Computational Optimal Transport (Peyré and Cuturi, 2019), Sections 2.2 and 2.6
    | https://arxiv.org/abs/1803.00567
"""

from __future__ import annotations

import torch
from torch import Tensor

LINES = 512


def exact_wasserstein(x: Tensor, y: Tensor, p: int = 1) -> float:
    """W_p of two sets of as many points, by linear assignment; time grows with the cube of their number.

    Arguments:
        x, y: ``[N, D]`` each.
        p: 1 or 2.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, and needed here only

    cost = torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist").numpy() ** p
    rows, columns = linear_sum_assignment(cost)
    return float(cost[rows, columns].mean() ** (1 / p))


def sliced_wasserstein(x: Tensor, y: Tensor, p: int = 2, lines: int = LINES, seed: int = 0) -> float:
    """SW_p of two sets of as many points, over random directions.

    Arguments:
        x, y: ``[N, D]`` each.
        p: the power.
        lines: how many directions.
        seed: of the directions; the global generator is left as it was.
    """
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(x.shape[1], lines, generator=generator, dtype=torch.float64)
    directions = directions / directions.norm(dim=0)
    one, two = ((side.double() @ directions).sort(0).values for side in (x, y))
    return float((one - two).abs().pow(p).mean() ** (1 / p))
