r"""Places told to attention by rotation, in two dimensions: scores depend on how far apart places are, not on where.

.. math:: \langle R_m q, R_n k \rangle = \langle q, R_{n - m} k \rangle

Half of a head's values turn with the row, half with the column, each pair at its own frequency.

References:
    | RoFormer: Enhanced Transformer with Rotary Position Embedding (Su et al., 2021), Equation 16
    | https://arxiv.org/abs/2104.09864
    | Rotary Position Embedding for Vision Transformer (Heo et al., 2024), Section 3.1: the axial form, base 100
    | https://arxiv.org/abs/2403.13298
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

BASE = 100.0


class Rotation(NamedTuple):
    """Angles of all places, as cosines and sines ``[L, d / 2]``."""

    cos: Tensor
    sin: Tensor


def rotation(height: int, width: int, head_width: int, device: torch.device) -> Rotation:
    """The rotation of a grid of places.

    Arguments:
        height, width: of the grid; L is their product.
        head_width: d, a multiple of 4.
        device: of the result.
    """
    pairs = head_width // 4
    frequencies = BASE ** -(torch.arange(pairs, device=device, dtype=torch.float32) / pairs)
    rows = torch.arange(height, device=device, dtype=torch.float32)[:, None] * frequencies
    columns = torch.arange(width, device=device, dtype=torch.float32)[:, None] * frequencies
    grid = (height, width, pairs)
    angles = torch.cat([rows[:, None].expand(grid), columns[None].expand(grid)], dim=2).flatten(0, 1)
    return Rotation(angles.cos(), angles.sin())


def rotate(x: Tensor, by: Rotation) -> Tensor:
    """Turns the pairs ``(x_i, x_{i + d/2})`` of ``[B, heads, L, d]`` by the angles of their places."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = by.cos.to(x.dtype), by.sin.to(x.dtype)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
