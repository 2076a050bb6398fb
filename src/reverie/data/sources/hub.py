"""Data sets of the Hugging Face Hub, or in its formats on this disk: ``hf:owner/name``, ``hf:./folder``.

Options follow a question mark: ``hf:owner/name?config=small&label=kind``. With ``rows=5000`` the first 5,000 rows of
each split are streamed into Reverie's cache, and nothing else is fetched. Images are decoded by Reverie; no code that
comes with a data set is run.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from reverie.core.errors import RequestError, nearest
from reverie.data.source import Described, Files
from reverie.data.sources.folder import SETTLED
from reverie.data.sources.hub_rows import (
    Columns,
    describe,
    find_columns,
    image_bytes,
    is_local,
    open_hub,
    pick_parts,
    scalars,
)
from reverie.data.sources.hub_stream import streamed

OPTIONS = ("config", "revision", "split", "image", "label", "rows")


def hub_source(text: str) -> Files:
    """The images of a data set; its label and its captions are found by themselves.

    Arguments:
        text: ``owner/name`` or a folder's path, and options: ``config``, ``revision``, ``split`` (the one to train on),
            ``image`` and ``label`` (columns), ``rows`` (streams so many).

    Raises:
        RequestError: the ``hub`` extra is missing, there is no such data set, or it has no images.
    """
    name, _, asked = text.partition("?")
    options = dict(parse_qsl(asked, keep_blank_values=True))
    for key in options:
        if key not in OPTIONS:
            raise RequestError(f"hf:{text}: no option '{key}'{nearest(key, OPTIONS)}")
    rows = options.get("rows", "")
    if not name or (rows and not (rows.isdecimal() and int(rows))):
        raise RequestError(f"'hf:{text}': write hf:owner/name or hf:./folder, and ?rows=5000 to stream so many")
    if rows:
        return streamed(name, options, int(rows))
    parts = pick_parts(open_hub(name, options, streaming=False), options, name)
    columns = find_columns(next(iter(parts.values())).features, options, name)
    tables = {part: rows.with_format("arrow") for part, rows in parts.items()}
    places = [(part, i) for part, rows in tables.items() for i in range(len(rows))]
    root = Path(name).expanduser().resolve() if is_local(name) else None

    def read(place: int) -> bytes:
        part, i = places[place]
        return image_bytes(tables[part][i][columns.image][0].as_py(), root)

    def described() -> Described:
        return describe(columns, {part: _values(table, columns) for part, table in tables.items()}, list(parts))

    stamp, settled = _stamp(name, options, parts)
    return Files("Hugging Face data set", [f"{part}/{i}" for part, i in places], read, described, stamp, settled)


def _values(table: Any, columns: Columns) -> list[dict[str, Any]]:
    """The columns beside the images, but for those that are neither text nor number."""
    return [row for block in table.iter(1000) for row in scalars(block.drop_columns([columns.image]).to_pylist())]


def _stamp(name: str, options: Mapping[str, str], parts: Mapping[str, Any]) -> tuple[str, bool]:
    """What changes when a file of the data set does, and whether the files are old enough to be sure."""
    stamp = hashlib.blake2b(json.dumps([name, sorted(options.items())]).encode(), digest_size=16)
    newest = 0.0
    for part, rows in parts.items():
        for file in rows.cache_files:
            about = os.stat(file["filename"])
            newest = max(newest, about.st_mtime)
            stamp.update(f"{part}\0{file['filename']}\0{about.st_size}\0{about.st_mtime_ns}\0{len(rows)}\n".encode())
    return stamp.hexdigest(), newest < time.time() - SETTLED
