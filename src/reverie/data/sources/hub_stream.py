"""The first rows of a data set of the Hub, streamed once into Reverie's cache: the rest is never fetched.

A folder ``hub/<key>`` holds ``images.bin``, one image after the other, ``ends.npy``, where each ends, and
``rows.json``, the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from reverie.core.errors import ReverieError
from reverie.data.cache import cache_folder, publish
from reverie.data.decode import BrokenImageError
from reverie.data.source import Described, Files
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
from reverie.data.split import digest

VERSION = 1


def streamed(name: str, options: Mapping[str, str], count: int) -> Files:
    """The first ``count`` rows of each split that is used; to fetch them anew name another ``revision``.

    Raises:
        RequestError: as ``hub_source``.
    """
    root = Path(name).expanduser().resolve() if is_local(name) else None
    key = digest(json.dumps([VERSION, str(root or name), _changed(root), sorted(options.items())]).encode()).hex()
    folder = cache_folder() / "hub" / key
    if not folder.is_dir():
        _fetch(name, options, count, root, folder)
    about = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
    columns = Columns(**{**about["columns"], "classes": _tuple(about["columns"]["classes"])})
    ends = np.load(folder / "ends.npy", allow_pickle=False)
    starts = np.concatenate([[0], ends[:-1]])

    def read(place: int) -> bytes:
        with (folder / "images.bin").open("rb") as stream:
            stream.seek(int(starts[place]))
            return stream.read(int(ends[place] - starts[place]))

    def described() -> Described:
        return describe(columns, about["values"], about["order"])

    names = [f"{part}/{i}" for part in about["order"] for i in range(len(about["values"][part]))]
    return Files("Hugging Face data set, streamed", names, read, described, key, settled=True)


def _fetch(name: str, options: Mapping[str, str], count: int, root: Path | None, folder: Path) -> None:
    parts = pick_parts(open_hub(name, options, streaming=True), options, name)
    columns = find_columns(next(iter(parts.values())).features, options, name)
    values: dict[str, list[dict[str, Any]]] = {}
    ends: list[int] = []
    with publish(folder) as unfinished:
        with (unfinished / "images.bin").open("wb") as images:
            for part, rows in parts.items():
                values[part] = []
                for row in _unbroken(islice(rows, count), name):
                    images.write(_image(row.pop(columns.image), root))
                    values[part].extend(scalars([row]))
                    ends.append(images.tell())
        np.save(unfinished / "ends.npy", np.array(ends, dtype=np.int64), allow_pickle=False)
        about = {"columns": vars(columns), "values": values, "order": list(parts)}
        (unfinished / "rows.json").write_text(json.dumps(about, default=str), encoding="utf-8")


def _unbroken(rows: Iterator[dict[str, Any]], name: str) -> Iterator[dict[str, Any]]:
    try:
        yield from rows
    except Exception as error:  # the network's, of many kinds
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise ReverieError(f"hf:{name} broke off while it was streamed ({line}); try the same again") from error


def _image(value: Any, root: Path | None) -> bytes:
    """Nothing where a row has no image: decoding then tells of it."""
    try:
        return image_bytes(value, root)
    except (BrokenImageError, OSError):
        return b""


def _changed(root: Path | None) -> list[tuple[str, int, int]]:
    """Names, sizes and times of a local data set's files; nothing of one on the Hub."""
    if root is None:
        return []
    files = sorted(file for file in root.rglob("*") if file.is_file())
    return [(str(file.relative_to(root)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def _tuple(names: list[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)
