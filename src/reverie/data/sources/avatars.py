"""The embedded avatars: 4,000 different drawn faces, 64×64, 400 of them held out, and all that was drawn in each."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from reverie.core.errors import RequestError, nearest
from reverie.data.pool import Facts
from reverie.data.source import Described, Pixels
from reverie.data.sources.digits import BUILTIN
from reverie.data.sources.idx import read_idx

HELD_OUT = 400  # the last rows
FILES = ("avatars-images-idx3-ubyte.gz", "avatars-palettes-idx3-ubyte.gz", "avatars.jsonl.gz")
SHAPE = (3, 64, 64)


def avatars_source(attribute: str = "") -> Pixels:
    """The embedded avatars; one of their attributes is the label.

    Arguments:
        attribute: ``hair`` (where empty), ``eyes``, ``mouth``, ``skin_color``, ``glasses``, ``smiling`` …

    Raises:
        RequestError: there is no such attribute.
    """
    attribute = attribute or "hair"
    raw = [(BUILTIN / name).read_bytes() for name in FILES]
    lines = gzip.decompress(raw[2]).decode("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    known = [key for key in rows[0] if key not in ("index", "text")]
    if attribute not in known:
        raise RequestError(f"avatars have no attribute '{attribute}'{nearest(attribute, known)}")
    labels, classes = _labels([row[attribute] for row in rows])
    facts = Facts(labels=labels, classes=classes, held_out=np.arange(len(rows)) >= len(rows) - HELD_OUT)

    def chunks() -> Iterator[np.ndarray]:
        images, palettes = (read_idx(BUILTIN / name) for name in FILES[:2])
        for places, palette in zip(images, palettes, strict=True):
            yield palette[places].transpose(2, 0, 1)[None]

    content = hashlib.blake2b(attribute.encode(), digest_size=16)
    for part in raw:
        content.update(part)
    return Pixels("built-in avatars", content.hexdigest(), SHAPE, len(rows), chunks, Described(facts, lines))


def _labels(values: list[Any]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels and their names; -1 where nothing is drawn that could have the attribute."""
    names = [{False: "no", True: "yes"}[value] if isinstance(value, bool) else value for value in values]
    classes = tuple(sorted({name for name in names if name is not None}))
    places = {name: k for k, name in enumerate(classes)}
    return np.array([places.get(name, -1) for name in names], dtype=np.int64), classes
