"""Labels as vectors, for networks that are not given a time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reverie.core.batch import Condition


class LabelVector(nn.Module):
    """Creates one learned vector for each class, and one for the unknown label -1.

    Arguments:
        classes: how many classes there are; with 0 the vector is empty, ``[B, 0]``.
        width: the vector's length.
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.width = width if classes else 0
        self.table = nn.Embedding(classes + 1, width) if classes else None

    def forward(self, condition: Condition | None, rows: int, device: torch.device) -> Tensor:
        """Returns vectors ``[rows, width]``; an absent label is unknown."""
        if self.table is None:
            return torch.zeros(rows, 0, device=device)
        label = None if condition is None else condition.label
        if label is None:
            label = torch.full((rows,), -1, device=device)
        # The last row of the table is the unknown label's.
        vector: Tensor = self.table(torch.where(label < 0, self.table.num_embeddings - 1, label))
        return vector
