"""The three things a source can be: encoded files, plain pixels, or points."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reverie.data.pool import Facts, Pool, Skipped


@dataclass(frozen=True)
class Files:
    """Encoded images, to be decoded.

    Arguments:
        kind: in words: "folder", "zip".
        names: of each image, relative to the source.
        read: a place in ``names`` to its bytes; called from several threads.
        stamp: changes when any file does (names, sizes, times), without reading one.
        fresh: whether a file changed so lately that its time cannot prove it unchanged later.
        facts: labels and tables, by place in ``names``.
        lines: the table as JSON, one line an image; None where there is none.
        skipped: what looked like an image and was left out.
        notes: what was decided, one line each.
    """

    kind: str
    names: Sequence[str]
    read: Callable[[int], bytes]
    stamp: str
    fresh: bool
    facts: Facts
    lines: Sequence[str] | None = None
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pixels:
    """Images that stand as plain bytes.

    Arguments:
        kind: in words: "IDX".
        content: a hash of all rows and facts.
        shape: ``(C, H, W)`` of one row.
        count: rows in all.
        chunks: gives the rows in order, uint8 ``[n, C, H, W]`` at a time.
        facts: labels, domains, the source's own test part.
        lines: the table as JSON, one line a row.
        digests: what stands for each row's content in the split, uint8 ``[N, 16]``; of its bytes where None.
        notes: what was decided, one line each.
    """

    kind: str
    content: str
    shape: tuple[int, int, int]
    count: int
    chunks: Callable[[], Iterator[np.ndarray]]
    facts: Facts
    lines: Sequence[str] | None = None
    digests: np.ndarray | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Points:
    """Rows that are made by a formula, and need no packing."""

    pool: Pool


@dataclass(frozen=True)
class Stacked:
    """Rows that are made on the fly from three rows of another source."""

    digits: Files | Pixels


Source = Files | Pixels | Points | Stacked
