"""What a source can be: encoded files, plain pixels, or rows that are made when they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from reverie.data.pool import Facts, Pool, Skipped


class Described(NamedTuple):
    """What is known of a source's rows beside their pixels.

    Arguments:
        facts: labels, domains and test part, by place in the source.
        lines: the table as JSON, one line a row; None where there is none.
        notes: what was decided or left out, one line each.
    """

    facts: Facts
    lines: Sequence[str] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Files:
    """Encoded images, to be decoded.

    Arguments:
        kind: in words: "folder", "zip".
        names: of each image, relative to the source.
        read: a place in ``names`` to its bytes; called from several threads.
        describe: reads labels and tables; called only when they are not in the cache.
        stamp: changes when any file does (names, sizes, times), without reading one.
        settled: whether the files are old enough for their times to prove them unchanged later.
        skipped: what looked like an image and was left out.
    """

    kind: str
    names: Sequence[str]
    read: Callable[[int], bytes]
    describe: Callable[[], Described]
    stamp: str
    settled: bool
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True)
class Pixels:
    """Images that stand as plain bytes.

    Arguments:
        kind: in words: "IDX".
        content: a hash of all rows and facts.
        shape: ``(C, H, W)`` of one row.
        count: rows in all.
        chunks: gives the rows in order, uint8 ``[n, C, H, W]`` at a time.
        described: labels, domains, the source's own test part.
        digests: what stands for each row's content in the split, uint8 ``[N, 16]``; of its bytes where None.
        lines: by the name of a map, the domain whose rows are dark lines on white, in the order of every other domain.
    """

    kind: str
    content: str
    shape: tuple[int, int, int]
    count: int
    chunks: Callable[[], Iterator[np.ndarray]]
    described: Described
    digests: np.ndarray | None = None
    lines: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Points:
    """Rows that are made by a formula, and need no packing."""

    pool: Pool


@dataclass(frozen=True)
class Stacked:
    """Rows that are made on the fly from three rows of another source."""

    digits: Files | Pixels


@dataclass(frozen=True)
class Drawn:
    """Images that are drawn when they are read, at any size.

    Arguments:
        kind: in words.
        size: what ``auto`` comes to.
        pool: a size to all rows.
    """

    kind: str
    size: int
    pool: Callable[[int], Pool]


Source = Files | Pixels | Points | Stacked | Drawn
