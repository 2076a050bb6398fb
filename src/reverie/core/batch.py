"""What a loss sees: rows, their conditions, and where they stand in the stream of training images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """What rows are conditioned on; every field is ``[B, ...]`` or None.

    Arguments:
        label: int64 ``[B]``; -1 stands for unknown or dropped.
        image: ``[B, C, H, W]`` in [-1, 1].
        sequence: ``[B, L, D]``, float32: codes of a text, or of other elements.
    """

    label: Tensor | None = None
    image: Tensor | None = None
    sequence: Tensor | None = None

    def to(self, device: torch.device | str) -> Condition:
        return self._map(lambda value: value.to(device))

    def rows(self, start: int, stop: int) -> Condition:
        """The condition of rows ``start`` to ``stop``."""
        return self._map(lambda value: value[start:stop])

    def join(self, other: Condition) -> Condition:
        """These rows' condition followed by other rows' of the same kind."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return Condition(**{k: None if a is None or b is None else torch.cat([a, b]) for k, (a, b) in pairs.items()})

    def without_label(self) -> Condition:
        """The same with every label dropped (-1): the unconditional branch of guidance."""
        return self if self.label is None else replace(self, label=torch.full_like(self.label, -1))

    def _map(self, change: Any) -> Condition:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Condition(**{k: v if v is None else change(v) for k, v in values.items()})


Asks = Callable[[Tensor], Condition]
"""What samples are drawn for: their ids ``[B]`` to their conditions."""


@dataclass(frozen=True)
class Batch:
    """Some rows of the data.

    Arguments:
        x: the rows, ``[B, *space.shape]``; images are float32 in [-1, 1].
        condition: their conditions.
        ids: int64 ``[B]``, each row's place in the stream of images seen; keys the noise.
        index: int64 ``[B]``, each row's place in the data set.
        parts: the other draws that the model asked for (``Model.draws``), by name.
        varies: the one factor that changes within this batch, where a draw asked for it.
        scratch: lives one round and micro-batch: fakes that two players share.
    """

    x: Tensor
    condition: Condition
    ids: Tensor
    index: Tensor
    parts: Mapping[str, Batch] = field(default_factory=dict)
    varies: str | None = None
    scratch: dict[str, Any] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> Batch:
        return replace(
            self,
            x=self.x.to(device, non_blocking=True),
            condition=self.condition.to(device),
            ids=self.ids.to(device),
            index=self.index.to(device),
            parts={name: part.to(device) for name, part in self.parts.items()},
        )


@dataclass(frozen=True)
class Draw:
    """An independent order over the data, or over part of it: a domain, or ``"labelled"`` rows."""

    where: str | None = None
    vary: tuple[str, ...] = ()
