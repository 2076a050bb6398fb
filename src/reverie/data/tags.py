"""Tags: what the table beside rows says of each, as a vector of noughts and ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from reverie.core.errors import RequestError, nearest
from reverie.data.pool import Pool

NO_TAGS = frozenset({"text", "file_name", "label", "domain", "index"})
"""Keys of a table that say something else."""

BLOCK = 1024  # rows of a table read at once: drawn scenes are composed as they are read


def tags_of(row: dict[str, Any]) -> list[str]:
    """The tags of one row of a table, each once: those under ``tags``, a list or words between commas.

    Where there are none its attributes are tags: what is true by its key, a word as ``key: word``, and so within
    objects.
    """
    given = row.get("tags")
    words = given.split(",") if isinstance(given, str) else given
    found = [str(word).strip() for word in words] if isinstance(words, list) else list(_attributes(row))
    return list(dict.fromkeys(filter(None, found)))


def _attributes(row: dict[str, Any]) -> Iterator[str]:
    for key, value in row.items():
        if key in NO_TAGS:
            continue
        if value is True:
            yield key
        elif isinstance(value, str):
            yield f"{key}: {value}"
        for below in value if isinstance(value, list) else [value]:
            if isinstance(below, dict):
                yield from _attributes(below)


def vocabulary(rows: Iterable[Sequence[str]], most: int) -> tuple[str, ...]:
    """The most common tags, at most so many, the most common first and equally common ones by name.

    What stands on one row alone cannot be learned, and is left out.
    """
    counts = Counter(tag for row in rows for tag in row)
    ordered = sorted((tag for tag, count in counts.items() if count > 1), key=lambda tag: (-counts[tag], tag))
    return tuple(ordered[:most])


def multi_hot(rows: Sequence[Sequence[str]], names: Sequence[str]) -> np.ndarray:
    """Rows' tags as uint8 ``[N, len(names)]``, 1 where a row has the tag; other tags are left out."""
    place = {name: k for k, name in enumerate(names)}
    found = np.zeros((len(rows), len(names)), np.uint8)
    for i, row in enumerate(rows):
        found[i, [place[tag] for tag in row if tag in place]] = 1
    return found


def read_tags(
    pool: Pool, train: np.ndarray, wanted: int | tuple[str, ...], source: str
) -> tuple[tuple[str, ...], np.ndarray]:
    """The tags' names, and all rows' tags, uint8 ``[N, names]``.

    Arguments:
        pool: all rows; where their table has no tags, the one tag of each is its class.
        train: places of the rows to train on, which decide what is common.
        wanted: how many of the most common tags, or their names.
        source: its name, for messages.

    Raises:
        RequestError: there are no tags, or a name is none of them.
    """
    table, labels = pool.facts.table, pool.facts.labels
    rows: list[list[str]] = [[] for _ in range(len(pool))]
    if table is not None:
        rows = [tags_of(row) for start in range(0, len(pool), BLOCK) for row in table[start : start + BLOCK]]
    if not any(rows) and labels is not None:
        rows = [[pool.facts.classes[label]] if label >= 0 else [] for label in labels]
    names = vocabulary((rows[place] for place in train), wanted) if isinstance(wanted, int) else wanted
    if not names:
        raise RequestError(
            f"{source} has no tags that two training rows share: write them into metadata.jsonl, as in "
            '{"file_name": "a.png", "tags": ["boat", "sea"]}, or as attributes'
        )
    known = {tag for row in rows for tag in row}
    for name in names:
        if name not in known:
            raise RequestError(f"{source} has no tag '{name}'{nearest(name, known)}")
    return names, multi_hot(rows, names)
