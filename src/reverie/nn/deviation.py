"""How far the values of real rows are apart, as the whole of the turn before had them.

What a loss takes from the rows of a turn themselves is another number on each micro-batch of it: this one is not.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reverie.core.model import Memory


class Deviation(Memory):
    """Creates the memory of a standard deviation: 0 until a turn has seen rows."""

    value: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(()))

    def remember(self, moments: Tensor) -> None:
        """Takes the deviation within groups of rows, the same for all, from their ``moments``, summed over a turn."""
        count, total, squares = moments.unbind(1)
        self.value.copy_(((squares - total.square() / count) / (count - 1).clamp_min(1)).clamp_min(0.0).mean().sqrt())


@torch.no_grad()
def moments(groups: Sequence[Tensor]) -> Tensor:
    """How many values groups of rows have, their sum and that of their squares, ``[groups, 3]``."""
    return torch.stack([torch.stack([x.new_tensor(x.numel()), x.sum(), x.square().sum()]) for x in groups]).float()
