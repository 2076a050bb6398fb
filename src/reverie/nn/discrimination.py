"""What every discriminator is: features of a row, and one last layer that turns them into a logit."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from reverie.core.batch import Condition
from reverie.nn.projection import ProjectedLogit


class Discriminator(nn.Module, ABC):
    """The base of the networks in ``nn/discriminator/``.

    A network sets ``head`` and ``feature_count``, the number of features that the head sees: other heads may read the
    same features (a class, a code).
    """

    head: ProjectedLogit
    feature_count: int

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """Returns features ``[B, feature_count]`` of rows ``[B, *space.shape]``."""

    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """Returns logits ``[B]``; images are in [-1, 1]."""
        return self.head(self.features(x), condition)
