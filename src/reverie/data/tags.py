"""Tags: what the table beside rows says of each, as a vector of noughts and ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from reverie.core.errors import RequestError, nearest
from reverie.core.terminal import shown
from reverie.data.pool import Pool

NO_TAGS = frozenset({"text", "file_name", "label", "domain", "index"})
"""Keys of a table that say something else."""

BLOCK = 1024  # rows of a table read at once: drawn scenes are composed as they are read
SURVEYED = 10_000  # rows in which what is passed over is counted


class Survey(NamedTuple):
    """What the tags of a table are.

    Arguments:
        rows: how many rows were looked at.
        tagged: how many of them have a tag.
        counts: how many rows have each tag.
        notes: what was passed over, a sentence each.
    """

    rows: int
    tagged: int
    counts: Counter[str]
    notes: tuple[str, ...]


def tags_of(row: dict[str, Any]) -> list[str]:
    """The tags of one row of a table, each once: those under ``tags``, a list or words between commas.

    Where there are none its attributes are tags: what is true by its key, a word as ``key: word``, and so within
    objects. What is neither is passed over; ``survey`` says so.
    """
    given = row.get("tags")
    words = given.split(",") if isinstance(given, str) else given
    if isinstance(words, list):
        found = [str(word).strip() for word in words if isinstance(word, str | int | float)]
    else:
        found = list(_attributes(row))
    return list(dict.fromkeys(filter(None, found)))


def survey(rows: Iterable[dict[str, Any]]) -> Survey:
    """Counts the tags of a table, and what of it cannot be one."""
    looked_at, tagged, malformed = 0, 0, 0
    counts, numbers = Counter[str](), Counter[str]()
    for row in rows:
        looked_at += 1
        found = tags_of(row)
        tagged += bool(found)
        counts.update(found)
        given = row.get("tags")
        malformed += not (given is None or isinstance(given, str) or _words(given))
        if not isinstance(given, str | list):
            keys = row.keys() - NO_TAGS - {"tags"}
            numbers.update(k for k in keys if isinstance(row[k], int | float) and not isinstance(row[k], bool))
    return Survey(looked_at, tagged, counts, tuple(_passed_over(malformed, numbers)))


def _words(given: Any) -> bool:
    """Whether it is a list of what can be written as words."""
    return isinstance(given, list) and all(isinstance(word, str | int | float) for word in given)


def _passed_over(malformed: int, numbers: Counter[str]) -> Iterator[str]:
    if malformed:
        yield (
            f"the tags of {malformed:,} row{'s are' if malformed > 1 else ' is'} no list of words, and passed over: "
            'write "tags": ["boat", "sea"] or "boat, sea"'
        )
    if numbers:
        listed = ", ".join(f"{shown(key)} of {count:,}" for key, count in sorted(numbers.items())[:5])
        yield (
            f"attributes that are numbers are no tags, and passed over ({listed} "
            f"row{'s' * (numbers.total() > 1)}): write them as words, or as true and false"
        )


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
) -> tuple[tuple[str, ...], np.ndarray, tuple[str, ...]]:
    """The tags' names, all rows' tags, uint8 ``[N, names]``, and a note of what was passed over.

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
    notes: tuple[str, ...] = ()
    if table is not None:
        rows = [tags_of(row) for start in range(0, len(pool), BLOCK) for row in table[start : start + BLOCK]]
        notes = survey(table[:SURVEYED]).notes
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
    return names, multi_hot(rows, names), notes
