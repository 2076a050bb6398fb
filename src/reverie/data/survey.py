"""A first look at encoded images: what each header says, and a hash of each file.

From it follow the resolution, grey or colour, the split and the name of the pack. It is kept under the files' names,
sizes and times, so that an unchanged folder is not read again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reverie.data.cache import publish
from reverie.data.decode import BrokenImageError, Header, quiet, read_header
from reverie.data.parallel import ordered
from reverie.data.pool import Skipped
from reverie.data.source import Described, Files
from reverie.data.split import DIGEST, digest

VERSION = 1
CHUNK = 32  # files a task
HEADER = np.dtype(
    [
        ("width", np.uint32),
        ("height", np.uint32),
        ("grey", np.bool_),
        ("alpha", np.bool_),
        ("ok", np.bool_),
        ("format", "S8"),
        ("digest", np.uint8, (DIGEST,)),
    ]
)


@dataclass(frozen=True)
class Survey:
    """What was seen.

    Arguments:
        content: a hash of all files, their names, labels and tables.
        headers: one record an image, of type ``HEADER``.
        skipped: images whose header could not be read, and why.
    """

    content: str
    headers: np.ndarray
    skipped: tuple[Skipped, ...]

    @property
    def readable(self) -> np.ndarray:
        """The headers of images that have one."""
        return self.headers[self.headers["ok"]]


def take_survey(files: Files, cache: Path, progress: Callable[[int, int], None] | None = None) -> Survey:
    """Reads every file once, or what was kept of the last time."""
    folder = cache / "surveys" / digest(f"{VERSION}/{files.stamp}".encode()).hex()
    kept = _read(folder)
    if kept is not None:
        return kept
    headers = np.zeros(len(files.names), dtype=HEADER)
    skipped: list[Skipped] = []

    def look(start: int) -> tuple[np.ndarray, list[Skipped]]:
        return _look(files, start, min(start + CHUNK, len(files.names)))

    done = 0
    with quiet():
        for part, broken in ordered(look, range(0, len(files.names), CHUNK)):
            headers[done : done + len(part)] = part
            skipped.extend(broken)
            done += len(part)
            if progress is not None:
                progress(done, 2 * len(files.names))  # decoding is the other half
    survey = Survey(_content(files, headers, files.describe()), headers, tuple(skipped))
    if files.settled:
        with publish(folder) as unfinished:
            np.save(unfinished / "headers.npy", headers, allow_pickle=False)
            about = {"content": survey.content, "skipped": skipped}
            (unfinished / "survey.json").write_text(json.dumps(about), encoding="utf-8")
    return survey


def _look(files: Files, start: int, stop: int) -> tuple[np.ndarray, list[Skipped]]:
    headers = np.zeros(stop - start, dtype=HEADER)
    skipped: list[Skipped] = []
    for i in range(start, stop):
        try:
            raw = files.read(i)
            headers[i - start]["digest"] = np.frombuffer(digest(raw), dtype=np.uint8)
            header: Header = read_header(raw)
        except (BrokenImageError, OSError) as error:
            skipped.append(Skipped(files.names[i], str(error)))
            continue
        record = headers[i - start]
        record["width"], record["height"], record["grey"], record["alpha"], name = header
        record["ok"], record["format"] = True, name.encode()
    return headers, skipped


def _content(files: Files, headers: np.ndarray, described: Described) -> str:
    key = hashlib.blake2b(digest_size=16)
    for name in files.names:
        key.update(name.encode("utf-8", "surrogateescape") + b"\0")
    key.update(np.ascontiguousarray(headers["digest"]).data)
    facts = described.facts
    for values in (facts.labels, facts.domains, facts.held_out):
        key.update(b"none" if values is None else np.ascontiguousarray(values).data)
    key.update(json.dumps([facts.classes, facts.domain_names]).encode())
    for line in described.lines or ():
        key.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return key.hexdigest()


def _read(folder: Path) -> Survey | None:
    if not folder.exists():  # nothing to remove: another process may be about to put it there
        return None
    try:
        about = json.loads((folder / "survey.json").read_text(encoding="utf-8"))
        headers = np.load(folder / "headers.npy", allow_pickle=False)
        if headers.dtype != HEADER:
            raise ValueError("another version's")
        return Survey(about["content"], headers, tuple(Skipped(*item) for item in about["skipped"]))
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        shutil.rmtree(folder, ignore_errors=True)
        return None
