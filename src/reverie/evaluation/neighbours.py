r"""The nearest rows of one set to each row of another: are samples new, or copies of the training set?

.. math:: d(x) = \min_i \lVert x - y_i \rVert

Distances go by blocks, so memory stays flat with the size of either set.

References:
    | A note on the evaluation of generative models (Theis, van den Oord and Bethge, 2015), Section 3.2
    | https://arxiv.org/abs/1511.01844
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reverie.data.dataset import Rows


class Neighbours(NamedTuple):
    """Distances ``[B, k]``, nearest first, and the places of those rows, int64 ``[B, k]``."""

    distance: Tensor
    places: Tensor


def nearest(queries: Tensor, blocks: Iterable[Tensor], k: int = 1) -> Neighbours:
    """The k nearest rows of a set that arrives in blocks.

    Arguments:
        queries: ``[B, D]``.
        blocks: ``[b, D]`` each; a row's place is its place in all of them together.
        k: how many; fewer come back where the set is smaller.
    """
    best = Neighbours(torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64))
    start = 0
    for block in blocks:
        found = _nearest_in(queries, block, k)
        distance = torch.cat([best.distance, found.distance], dim=1)
        index = torch.cat([best.places, found.places + start], dim=1)
        order = distance.argsort(dim=1, stable=True)[:, :k]
        best = Neighbours(distance.gather(1, order), index.gather(1, order))
        start += len(block)
    return best


def _nearest_in(queries: Tensor, block: Tensor, k: int) -> Neighbours:
    """The k nearest rows of one block: fast distances choose them, and are then computed again exactly.

    The fast form |a|^2 + |b|^2 - 2ab loses half its digits where a and b are close: in float32 it cannot tell a copy
    from a near miss, in float64 it can, but calls a copy 1e-6 away.
    """
    rough = torch.cdist(queries.double(), block.double(), compute_mode="use_mm_for_euclid_dist")
    chosen = rough.topk(min(len(block), k), dim=1, largest=False).indices
    exact = torch.stack([(q - block[c]).square().sum(1).sqrt() for q, c in zip(queries, chosen, strict=True)])
    order = exact.argsort(dim=1, stable=True)
    return Neighbours(exact.gather(1, order), chosen.gather(1, order))


def pixel_blocks(rows: Rows, size: int, values: int = 2**22) -> Iterator[Tensor]:
    """All rows as vectors in [-1, 1], about ``values`` numbers at a time.

    Arguments:
        rows: of a data set.
        size: numbers in a row.
        values: numbers in a block.
    """
    block = max(1, values // size)
    for start in range(0, len(rows), block):
        x, _ = rows.take(np.arange(start, min(start + block, len(rows))))
        yield x.flatten(1)
