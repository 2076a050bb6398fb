"""Rows as they lie in memory or in the cache, before they are split and conditioned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from reverie.core.terminal import shown


class Skipped(NamedTuple):
    """Something in a source that gave no row, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{shown(self.name)}: {shown(self.reason)}"


@dataclass(frozen=True)
class Facts:
    """What a source says about its rows beside their pixels; every array is ``[N]``.

    Arguments:
        labels: int64, -1 unknown; None where rows have none.
        classes: the labels' names.
        modes: labels merely name a mode of the distribution.
        domains: int64 into ``domain_names``; None where there are none.
        domain_names: drawing styles, sides of a translation.
        main: the domain that is trained on unless a draw asks for another; empty for all.
        held_out: the source's own test rows; None where it has no test part.
        table: captions and attributes, one dict a row; None where there are none.
    """

    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    modes: bool = False
    domains: np.ndarray | None = None
    domain_names: tuple[str, ...] = ()
    main: str = ""
    held_out: np.ndarray | None = None
    table: Sequence[dict[str, Any]] | None = None


@dataclass(frozen=True)
class Map:
    """A second picture of each row, aligned with the first, on which models can be conditioned.

    Arguments:
        channels: of one.
        read: int64 ``[B]``, places in the pool, to bytes ``[B, channels, H, W]``, as large as the pool's rows.
    """

    channels: int
    read: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Pool:
    """All rows of a source at one size.

    Arguments:
        key: a hash of content and transform.
        kind: of the source, in words.
        shape: of one row: ``(C, H, W)`` bytes, or ``(D,)`` floats.
        digests: uint8 ``[N, 16]``, a hash of each row's content as it stood in the source.
        read: int64 ``[B]`` to a fresh copy of rows ``[B, *shape]``.
        facts: labels, domains and tables.
        notes: what was decided, one line each.
        skipped: what gave no row (the first ones).
        broken: how many gave none.
        maps: by name, the maps that the source has of its rows.
    """

    key: str
    kind: str
    shape: tuple[int, ...]
    digests: np.ndarray
    read: Callable[[np.ndarray], np.ndarray]
    facts: Facts
    notes: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = field(default=())
    broken: int = 0
    maps: Mapping[str, Map] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.digests)
