"""A memory of pairs of noise and what was made of it, so that what was costly to make serves many times."""

from __future__ import annotations

import torch
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.model import Memory
from reverie.core.noise import Noise
from reverie.core.space import Space


class Pairs(Memory):
    """Creates an empty memory; when it is full, the oldest pairs give way.

    Arguments:
        space: what one row is; labels are kept where it has classes.
        size: how many pairs fit.
    """

    noise: Tensor
    rows: Tensor
    labels: Tensor
    written: Tensor

    def __init__(self, space: Space, size: int) -> None:
        super().__init__()
        self.register_buffer("noise", torch.zeros(size, *space.shape))
        self.register_buffer("rows", torch.zeros(size, *space.shape))
        self.register_buffer("labels", torch.full((size,), -1))
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def put(self, noise: Tensor, rows: Tensor, condition: Condition) -> None:
        """Writes pairs ``[B, ...]``, B at most the size."""
        places = (int(self.written) + torch.arange(len(noise), device=noise.device)) % len(self.rows)
        self.noise[places] = noise
        self.rows[places] = rows
        if condition.label is not None:
            self.labels[places] = condition.label
        self.written += len(noise)

    def draw(self, noise: Noise, labelled: bool) -> tuple[Tensor, Tensor, Condition]:
        """Pairs drawn with replacement, one for each row of ``noise``: their noise, rows and condition."""
        places = noise.integers(min(int(self.written), len(self.rows)))
        label = self.labels[places] if labelled else None
        return self.noise[places], self.rows[places], Condition(label=label)
