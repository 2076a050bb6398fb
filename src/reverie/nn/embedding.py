"""Times, labels and places as vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from reverie.core.batch import Condition
from reverie.core.space import Space


def fourier_features(t: Tensor, width: int, scale: float = 1000.0) -> Tensor:
    r"""Sines and cosines of times at geometrically spaced frequencies.

    .. math:: \cos(s t \omega_k), \sin(s t \omega_k), \quad \omega_k = 10000^{-k / (width / 2)}

    Arguments:
        t: times ``[B]`` in [0, 1].
        width: how many features, an even number.
        scale: what times are multiplied by, so that [0, 1] covers DDPM's 1000 steps.

    Returns:
        ``[B, width]``, float32 (float64 for times in float64).

    References:
        | Attention Is All You Need (Vaswani et al., 2017), Section 3.5
        | https://arxiv.org/abs/1706.03762
    """
    half = width // 2
    t = t.to(torch.promote_types(t.dtype, torch.float32))
    frequencies = torch.exp(torch.arange(half, device=t.device, dtype=t.dtype) * (-math.log(10000.0) / half))
    angles = scale * t[:, None] * frequencies
    return torch.cat([torch.cos(angles), torch.sin(angles)], dim=1)


def grid_features(grid: tuple[int, int], known: tuple[int, int], width: int, device: torch.device) -> Tensor:
    """Sines and cosines of the places of a grid, half of them of the row, half of the column.

    Coordinates are stretched so that any grid covers what the known one covers: positions are interpolated.

    Arguments:
        grid: rows and columns of places.
        known: of the grid that the network was built for.
        width: how many features, a multiple of 4.
        device: where.

    Returns:
        ``[L, width]``, float32, row after row.

    References:
        | Masked Autoencoders Are Scalable Vision Learners (He et al., 2022): the two-dimensional form
        | https://arxiv.org/abs/2111.06377
    """
    features = []
    for side, other in zip(grid, known, strict=True):
        places = (torch.arange(side, device=device) + 0.5) * (other / side) - 0.5
        features.append(fourier_features(places, width // 2, scale=1.0))
    shape = (*grid, width // 2)
    return torch.cat([features[0][:, None].expand(shape), features[1][None].expand(shape)], dim=2).flatten(0, 1)


class ConditionEmbedding(nn.Module):
    """Creates the vector that tells every block of a denoiser the time and the label.

    Arguments:
        space: what one row is; its ``classes`` says whether there are labels.
        features: how many Fourier features of the time.
        width: the vector's length.
    """

    def __init__(self, space: Space, features: int, width: int) -> None:
        super().__init__()
        self.features = features
        self.classes = space.classes
        self.time = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))
        # One row more than classes: the last stands for "unknown".
        self.label = nn.Embedding(space.classes + 1, width) if space.classes else None

    def forward(self, t: Tensor, condition: Condition | None) -> Tensor:
        """Returns ``[B, width]`` in float32, whatever autocast says: it is small, and times need the digits."""
        with torch.autocast(t.device.type, enabled=False):
            features = fourier_features(t, self.features)
            vector: Tensor = self.time(features.to(next(self.time.parameters()).dtype))
            if self.label is not None:
                label = None if condition is None else condition.label
                if label is None:
                    label = t.new_full(t.shape, -1, dtype=torch.long)
                vector = vector + self.label(torch.where(label < 0, self.classes, label))
            return nn.functional.silu(vector)
