"""What every discriminator is: features of a row, and one last layer that turns them into a logit."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from reverie.core.batch import Condition
from reverie.nn.label import LabelPlanes
from reverie.nn.projection import ProjectedLogit


class Discriminator(nn.Module, ABC):
    """The base of the networks in ``nn/discriminator/``.

    A network sets ``head`` and ``feature_count``, the number of features that the head sees: other heads may read the
    same features (a class, a code). Where it sets ``planes``, labels join the rows instead of the features.
    """

    head: ProjectedLogit
    feature_count: int

    def __init__(self) -> None:
        super().__init__()
        self.planes: LabelPlanes | None = None

    def enter(self, x: Tensor, condition: Condition | None) -> Tensor:
        """Returns what ``features`` takes: rows, with their labels where those are concatenated."""
        return x if self.planes is None else self.planes(x, condition)

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """Returns features ``[B, feature_count]`` of rows ``[B, *space.shape]``, as ``enter`` gives them."""

    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """Returns logits ``[B]``; images are in [-1, 1]."""
        return self.head(self.features(self.enter(x, condition)), condition)
