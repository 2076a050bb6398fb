"""Labels as vectors, for networks that are not given a time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reverie.core.batch import Condition
from reverie.core.space import Space


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
        if self.table is not None:
            # Small beside z, which it is joined to: with torch's unit variance, batch norm soon divides z's share away
            # by the label's, and a GAN draws one picture a class.
            nn.init.normal_(self.table.weight, std=0.3)

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


class LabelPlanes(nn.Module):
    """Creates the concatenation of rows and their labels: a plane of ones for the class, of zeros for the others.

    Arguments:
        classes: how many classes there are.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x: Tensor, condition: Condition | None) -> Tensor:
        """Returns ``[B, C + classes, ...]`` for rows ``[B, C, ...]``; all zeros where the label is unknown."""
        label = None if condition is None else condition.label
        if label is None:
            label = torch.full((len(x),), -1, device=x.device)
        planes = (label[:, None] == torch.arange(self.classes, device=x.device)).to(x.dtype)
        return torch.cat([x, planes.view(*planes.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])], dim=1)


def unseen_labels(space: Space) -> tuple[str, ...]:
    """What a model that looks at no labels says of data ``space`` that have them."""
    if not space.classes:
        return ()
    return (f"this model looks at no labels: the data's {space.classes} classes are left aside (data.condition=none)",)
