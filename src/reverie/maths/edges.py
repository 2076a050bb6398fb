r"""Edges of images, a whole batch at once: Canny's detector, and how well two edge maps agree.

Images are smoothed by a Gaussian, the gradient is taken in the channel where it is largest, kept where it is a maximum
across the edge, and traced: from pixels whose gradient is at least ``high`` along neighbours where it is at least
``low``.

References:
    | A Computational Approach to Edge Detection (Canny, 1986)
    | https://doi.org/10.1109/TPAMI.1986.4767851
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LOW, HIGH = 0.1, 0.2  # of the gradient a pixel: where sigma is 1, edges of 15 and 30 % of black to white

_TAN_22 = math.tan(math.pi / 8)
# Steps (down, right) across an edge whose gradient points right, down and right, down, down and left.
_ACROSS = ((0, 1), (1, 1), (1, 0), (1, -1))


@torch.no_grad()
def edges(x: Tensor, low: float = LOW, high: float = HIGH, sigma: float = 1.0) -> Tensor:
    """The edges of images; a row's do not depend on other rows.

    Arguments:
        x: images ``[B, C, H, W]`` in [-1, 1], 2 pixels a side at least.
        low: the least gradient of a pixel on an edge, a pixel; an edge between two plains that differ by d has
            0.32 d where ``sigma`` is 1.
        high: the least gradient from which an edge is traced.
        sigma: of the Gaussian, in pixels.

    Returns:
        1 on an edge, one pixel wide, and -1 elsewhere: float32 ``[B, 1, H, W]``.
    """
    down, right = _gradient(_smoothed(x.float(), sigma))  # [B, H, W]
    size = torch.hypot(down, right)
    weak = _thinned(size, down, right) & (size >= low)
    return _traced(weak & (size >= high), weak)[:, None].float().mul_(2.0).sub_(1.0)


@torch.no_grad()
def edge_agreement(found: Tensor, wanted: Tensor, tolerance: int = 0) -> Tensor:
    r"""How well edges agree: :math:`F_1 = 2 p r / (p + r)`.

    Arguments:
        found: edge maps ``[B, 1, H, W]``; an edge is where they are positive.
        wanted: likewise; precision p is the share of ``found`` that lies near an edge of it, recall r the share of it
            that lies near an edge of ``found``.
        tolerance: what near is, in pixels, in both directions. Small pictures are so full of edges that at 1 the maps
            of two unlike digits agree by 0.7, at 0 by 0.24; with a little noise a map agrees with itself by 0.95.

    Returns:
        float64 ``[B]``; 1 where neither has an edge, 0 where one has none.
    """
    found, wanted = (found > 0).double(), (wanted > 0).double()

    def near(one: Tensor, other: Tensor) -> Tensor:
        grown = F.max_pool2d(other, 2 * tolerance + 1, stride=1, padding=tolerance)
        return (one * grown).sum((1, 2, 3)) / one.sum((1, 2, 3)).clamp(min=1.0)

    precision, recall = near(found, wanted), near(wanted, found)
    f_1 = 2.0 * precision * recall / (precision + recall).clamp(min=1e-12)
    neither = found.sum((1, 2, 3)) + wanted.sum((1, 2, 3)) == 0
    return torch.where(neither, torch.ones_like(f_1), f_1)


def _smoothed(x: Tensor, sigma: float) -> Tensor:
    reach = math.ceil(3.0 * sigma)
    place = torch.arange(-reach, reach + 1, dtype=torch.float32, device=x.device)
    weights = torch.exp(-(place**2) / (2.0 * sigma**2))
    weights = weights / weights.sum()
    height, width = x.shape[2:]
    # Two matrices instead of convolutions: one row of weights a pixel, edges of the picture repeated.
    return _band(weights, height) @ x @ _band(weights, width).T


def _band(weights: Tensor, count: int) -> Tensor:
    """The matrix ``[count, count]`` of a convolution along one side whose ends are repeated."""
    reach = len(weights) // 2
    rows = torch.arange(count, device=weights.device)[:, None].expand(count, len(weights))
    columns = (rows + torch.arange(-reach, reach + 1, device=weights.device)).clamp(0, count - 1)
    return weights.new_zeros(count, count).index_put((rows, columns), weights.expand(count, -1), accumulate=True)


def _gradient(x: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel's derivatives down and right ``[B, H, W]``, a pixel, of the channel where they are largest."""
    p = F.pad(x, (1, 1, 1, 1), mode="replicate")
    columns = p[..., :-2] + 2.0 * p[..., 1:-1] + p[..., 2:]  # smoothed along the row
    rows = p[..., :-2, :] + 2.0 * p[..., 1:-1, :] + p[..., 2:, :]
    down, right = (columns[..., 2:, :] - columns[..., :-2, :]) / 8.0, (rows[..., 2:] - rows[..., :-2]) / 8.0
    most_down, most_right, most = down[:, 0], right[:, 0], down[:, 0].square() + right[:, 0].square()
    for channel in range(1, x.shape[1]):
        size = down[:, channel].square() + right[:, channel].square()
        larger = size > most
        most_down = torch.where(larger, down[:, channel], most_down)
        most_right = torch.where(larger, right[:, channel], most_right)
        most = torch.where(larger, size, most)
    return most_down, most_right


def _thinned(size: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Where the gradient is a maximum along its own direction, to the nearest of eight."""
    p = F.pad(size, (1, 1, 1, 1))
    height, width = size.shape[1:]
    flat, steep = down.abs() <= _TAN_22 * right.abs(), right.abs() <= _TAN_22 * down.abs()
    slanted = ~(flat | steep)
    falls = down * right > 0  # the gradient points down and right, or up and left
    kept = torch.zeros_like(flat)
    for (dy, dx), where in zip(_ACROSS, (flat, slanted & falls, steep, slanted & ~falls), strict=True):
        ahead = p[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        behind = p[:, 1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width]
        # Of two equal pixels, as beside a sharp step, the one ahead is kept.
        kept |= where & (size > ahead) & (size >= behind * (1.0 - 1e-5))
    return kept


def _traced(strong: Tensor, weak: Tensor) -> Tensor:
    """Pixels of ``weak`` that a path of its pixels joins to ``strong``."""
    while True:
        p = F.pad(strong, (1, 1, 1, 1))
        p = p[..., :-2] | p[..., 1:-1] | p[..., 2:]
        grown = (p[:, :-2] | p[:, 1:-1] | p[:, 2:]) & weak
        if torch.equal(grown, strong):
            return strong
        strong = grown
