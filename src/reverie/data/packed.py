"""The packed cache: images decoded once, in parallel, into one memory-mapped array shared by all runs.

A pack is a folder named by a hash of content and transform, complete from the moment it has that name:

    rows.bin       uint8 [N, C, H, W]
    digests.bin    uint8 [N, 16], each row's content before the transform
    labels.npy, domains.npy, held_out.npy   where the source has them
    table.jsonl, table.npy   captions and attributes, and where each line starts
    pack.json      the rest
"""

from __future__ import annotations

import json
import mmap
import shutil
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from reverie.core.noise import KeyedNoise
from reverie.data.cache import publish
from reverie.data.pool import Facts, Pool, Skipped
from reverie.data.source import Described
from reverie.data.split import DIGEST
from reverie.data.transform import Transform

VERSION = 1
KEEP_SKIPPED = 1000  # listed; all are counted
RELEASE = 16 * 2**20  # bytes mapped after which they are given back
AROUND = 64 * 2**10  # bytes that Linux maps around the one that is touched


class Block(NamedTuple):
    """Some rows on their way into a pack.

    Arguments:
        rows: uint8 ``[n, C, H, W]``.
        digests: uint8 ``[n, 16]``.
        places: int64 ``[n]``, where in the source they stood.
        skipped: what in this block gave no row.
    """

    rows: np.ndarray
    digests: np.ndarray
    places: np.ndarray
    skipped: tuple[Skipped, ...] = ()


class Mapped:
    """Rows of a file, read without holding it in memory.

    Arguments:
        file: uint8 values, row after row.
        shape: of one row.
    """

    def __init__(self, file: Path, shape: tuple[int, ...]) -> None:
        with file.open("rb") as stream:
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self._rows = np.frombuffer(self._map, dtype=np.uint8).reshape(-1, *shape)
        self._bytes = prod(shape) + AROUND
        self._touched = 0
        self._releases = hasattr(mmap, "MADV_DONTNEED") and self._rows.nbytes > RELEASE

    def __call__(self, index: np.ndarray) -> np.ndarray:
        rows = self._rows.take(index, axis=0)
        # Mapped pages count as this process's memory for as long as they are mapped, though the system could take
        # them back: unmapping them keeps the figure flat, and costs nothing while the file is in the page cache.
        self._touched += len(index) * self._bytes
        if self._releases and self._touched > RELEASE:
            self._touched = 0
            self._map.madvise(mmap.MADV_DONTNEED)
        return rows


class Table(Sequence[dict[str, Any]]):
    """Lines of JSON in a file, parsed when asked for."""

    def __init__(self, file: Path, starts: np.ndarray) -> None:
        self._file, self._starts = file, starts

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        with self._file.open("rb") as stream:
            stream.seek(int(self._starts[place]))
            return json.loads(stream.readline())


def binarize(rows: np.ndarray, digests: np.ndarray) -> np.ndarray:
    """Each pixel white with the probability of its intensity, drawn once: keyed by the row's own content.

    Arguments:
        rows: uint8 ``[n, C, H, W]``.
        digests: uint8 ``[n, 16]``.

    Returns:
        0 or 255, uint8 ``[n, C, H, W]``.
    """
    ids = torch.from_numpy(np.ascontiguousarray(digests[:, :8]).view("<i8")[:, 0].astype(np.int64))
    u = KeyedNoise(0, ids, "binarize").uniform(*rows.shape[1:]).numpy()
    return np.where(rows > u * 255.0, np.uint8(255), np.uint8(0))


def write_pack(folder: Path, kind: str, transform: Transform, blocks: Iterator[Block], described: Described) -> None:
    """Writes a pack; it appears under its name when it is complete, and not before.

    Arguments:
        folder: its place.
        kind: of the source, in words.
        transform: what was done to the rows.
        blocks: the rows.
        described: labels and tables, by place in the source.
    """
    facts, lines, notes = described
    shape = (transform.channels, transform.size, transform.size)
    places: list[np.ndarray] = []
    skipped: list[Skipped] = []
    broken, grey = 0, True
    with publish(folder) as unfinished:
        with (unfinished / "rows.bin").open("wb") as rows_file, (unfinished / "digests.bin").open("wb") as digests_file:
            for block in blocks:
                rows = binarize(block.rows, block.digests) if transform.binarize == "once" else block.rows
                rows_file.write(np.ascontiguousarray(rows).data)
                digests_file.write(np.ascontiguousarray(block.digests).data)
                places.append(block.places)
                broken += len(block.skipped)
                skipped.extend(block.skipped[: KEEP_SKIPPED - len(skipped)])
                grey = grey and bool((rows == rows[:, :1]).all())
        kept = np.concatenate([np.zeros(0, np.int64), *places])
        _write_facts(unfinished, facts, kept)
        if lines is not None:
            _write_table(unfinished, lines, kept)
        about = {
            "version": VERSION,
            "kind": kind,
            "shape": shape,
            "count": len(kept),
            "grey": grey,
            "broken": broken,
            "skipped": skipped,
            "notes": notes,
            "classes": facts.classes,
            "modes": facts.modes,
            "domain_names": facts.domain_names,
            "main": facts.main,
            "transform": transform.model_dump(),
        }
        (unfinished / "pack.json").write_text(json.dumps(about), encoding="utf-8")


def _write_facts(folder: Path, facts: Facts, kept: np.ndarray) -> None:
    arrays = {"labels": facts.labels, "domains": facts.domains, "held_out": facts.held_out}
    for name, values in arrays.items():
        if values is not None:
            np.save(folder / f"{name}.npy", values[kept], allow_pickle=False)


def _write_table(folder: Path, lines: Sequence[str], kept: np.ndarray) -> None:
    starts = np.empty(len(kept), dtype=np.int64)
    with (folder / "table.jsonl").open("wb") as table:
        for i, place in enumerate(kept):
            starts[i] = table.tell()
            table.write(lines[place].encode("utf-8", "backslashreplace") + b"\n")
    np.save(folder / "table.npy", starts, allow_pickle=False)


def read_pack(folder: Path, key: str) -> Pool | None:
    """The pack in a folder; None where there is none, or it is damaged (it is then removed)."""
    if not folder.exists():  # nothing to remove: another process may be about to put it there
        return None
    try:
        return _read_pack(folder, key)
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _read_pack(folder: Path, key: str) -> Pool:
    about = json.loads((folder / "pack.json").read_text(encoding="utf-8"))
    count, shape = about["count"], tuple(about["shape"])
    if (folder / "rows.bin").stat().st_size != count * prod(shape):
        raise ValueError("cut short")
    arrays = {name: _read_array(folder / f"{name}.npy") for name in ("labels", "domains", "held_out", "table")}
    facts = Facts(
        labels=arrays["labels"],
        classes=tuple(about["classes"]),
        modes=about["modes"],
        domains=arrays["domains"],
        domain_names=tuple(about["domain_names"]),
        main=about["main"],
        held_out=arrays["held_out"],
        table=None if arrays["table"] is None else Table(folder / "table.jsonl", arrays["table"]),
    )
    notes = tuple(about["notes"])
    if about["grey"] and shape[0] == 3 and count:
        notes = (*notes, "every image is grey, so there are no colours to learn: data.channels=1 holds as much")
    return Pool(
        key=key,
        kind=about["kind"],
        shape=shape,
        digests=np.fromfile(folder / "digests.bin", dtype=np.uint8).reshape(count, DIGEST),
        # An empty file cannot be mapped.
        read=Mapped(folder / "rows.bin", shape) if count else lambda index: np.zeros((0, *shape), np.uint8),
        facts=facts,
        notes=notes,
        skipped=tuple(Skipped(*item) for item in about["skipped"]),
        broken=about["broken"],
    )


def _read_array(file: Path) -> np.ndarray | None:
    if not file.exists():
        return None
    array: np.ndarray = np.load(file, allow_pickle=False)
    return array
