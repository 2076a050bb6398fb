"""What a tool draws: images, laid out row by row."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Sheet(NamedTuple):
    """Images ``[B, C, H, W]`` in [-1, 1], and how many stand in a row."""

    x: Tensor
    columns: int


def strips(*columns: Tensor) -> Sheet:
    """A row for each picture, from columns ``[N, ...]`` or, where there are several results each, ``[N, n, ...]``."""
    parts = [column if column.ndim == 5 else column[:, None] for column in columns]
    x = torch.cat([part.cpu().clamp(-1, 1) for part in parts], dim=1)
    return Sheet(x.flatten(0, 1), x.shape[1])
