"""What every discriminator is: features of a row, and one last layer that turns them into a logit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from reverie.core.batch import Condition
from reverie.maths.penalties import slope
from reverie.nn.label import LabelPlanes
from reverie.nn.minibatch import MinibatchFeatures
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

    @property
    def mixes_rows(self) -> bool:
        """Whether a row's logit depends on the other rows in training: by batch norm, or on purpose."""
        return any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d | MinibatchFeatures) for m in self.modules())


def judged(
    network: Discriminator, points: Mapping[str, Tensor], sloped: Collection[str], condition: Condition
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The logits of rows at several places, and their slopes at some.

    Real and generated rows are seen apart where rows see each other, as batch norm must; else in one call, which is
    the same but faster.

    Arguments:
        network: the discriminator.
        points: rows ``[B, ...]`` by place.
        sloped: the places at which the gradient of the logits is wanted.
        condition: of the rows of each place.

    Returns:
        Logits ``[B]`` by place, and gradients ``[B, ...]``, themselves differentiable, by place of ``sloped``.
    """
    logits: dict[str, Tensor] = {}
    slopes: dict[str, Tensor] = {}
    flat = [at for at in points if at not in sloped]
    for group in [[at] for at in points] if network.mixes_rows else [list(sloped), flat]:
        if not group:
            continue
        x, given = points[group[0]], condition
        for at in group[1:]:
            x, given = torch.cat([x, points[at]]), given.join(condition)
        x = x.detach().requires_grad_() if group[0] in sloped else x
        found = network(x, given)
        logits |= zip(group, found.chunk(len(group)), strict=True)
        if group[0] in sloped:
            slopes |= zip(group, slope(found, x).chunk(len(group)), strict=True)
    return logits, slopes
