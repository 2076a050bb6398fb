r"""The kernel distance: the squared maximum mean discrepancy of two sets of features, without bias.

.. math:: \mathrm{MMD}^2 = \frac{1}{m (m - 1)} \sum_{i \neq j} k(x_i, x_j) + \frac{1}{n (n - 1)} \sum_{i \neq j}
    k(y_i, y_j) - \frac{2}{m n} \sum_{i, j} k(x_i, y_j)

with one of the kernels

.. math:: k(x, y) = \Big(\frac{x \cdot y}{D} + 1\Big)^3, \qquad
    k(x, y) = \exp\Big(-\frac{\lVert x - y \rVert^2}{2 \sigma^2}\Big)

The first is a polynomial: it sees means, covariances and skewness. The second sees any difference, best at its own
scale, and lies between 0 and 1.

Its expectation does not depend on how many rows there are, which the Fréchet distance's does; of two sets of real rows
it is 0 on average, and so half the time below.

References:
    | Demystifying MMD GANs (Bińkowski, Sutherland, Arbel and Gretton, 2018), Section 4
    | https://arxiv.org/abs/1801.01401
    | A Kernel Two-Sample Test (Gretton et al., 2012), Equation 3
    | https://jmlr.org/papers/v13/gretton12a.html
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reverie.core.errors import RequestError

BLOCKS = 10


class KernelDistance(NamedTuple):
    """The mean over blocks of rows that share none, and its standard error."""

    value: float
    error: float


def kernel_distance(real: Tensor, samples: Tensor, blocks: int = BLOCKS, width: float | None = None) -> KernelDistance:
    """Measures samples against real rows, block by block: memory and time stay linear in the rows.

    Arguments:
        real: features ``[M, D]``, in no order; the last M mod ``blocks`` are left out.
        samples: features ``[N, D]``, likewise.
        blocks: into how many each side is split, at least 2.
        width: sigma of the Gaussian kernel; the polynomial one where None.

    Raises:
        RequestError: a block would have fewer than two rows.
    """
    if min(len(real), len(samples)) < 2 * blocks:
        raise RequestError(
            f"the kernel distance needs {2 * blocks} rows on each side, not {len(real)} and {len(samples)}"
        )
    sides = [rows[: len(rows) // blocks * blocks].reshape(blocks, -1, rows.shape[1]) for rows in (real, samples)]
    found = torch.stack([squared_mmd(x, y, width) for x, y in zip(*sides, strict=True)])
    return KernelDistance(float(found.mean()), float(found.std()) / blocks**0.5)


def squared_mmd(x: Tensor, y: Tensor, width: float | None = None) -> Tensor:
    """The unbiased estimate, float64, from rows ``[m, D]`` and ``[n, D]``, m and n at least 2.

    Products are in the rows' own precision, whose errors average out over pairs; sums are in float64.
    """
    # In NumPy from end to end: its threads and torch's, taken in turns, wait for each other.
    one, two = x.numpy(), y.numpy()
    between = _kernel(one, two, width).mean(dtype=np.float64)
    return torch.tensor(_among(one, width) + _among(two, width) - 2.0 * between)


def typical_distance(x: Tensor) -> float:
    """The median distance of different rows, which serves as the Gaussian kernel's width.

    References:
        | A Kernel Two-Sample Test (Gretton et al., 2012), Section 8
        | https://jmlr.org/papers/v13/gretton12a.html
    """
    return float(torch.pdist(x.double()).median())


def _among(x: np.ndarray, width: float | None) -> float:
    """The mean of the kernel over pairs of different rows."""
    k = _kernel(x, x, width)
    total = k.sum(dtype=np.float64) - k.trace(dtype=np.float64)
    return float(total / (len(x) * (len(x) - 1)))


def _kernel(x: np.ndarray, y: np.ndarray, width: float | None) -> np.ndarray:
    products = x @ y.T  # NumPy's library computes half of a product with its own transpose
    if width is None:
        products *= 1.0 / x.shape[1]
        products += 1.0
        cube = products * products
        cube *= products
        return cube
    products *= -2.0
    products += np.square(x).sum(1)[:, None]
    products += np.square(y).sum(1)
    np.maximum(products, 0.0, out=products)
    products *= -0.5 / width**2
    return np.exp(products, out=products)
