"""A folder of images, searched through: links to folders, pipes and devices are never opened."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from reverie.core.errors import RequestError
from reverie.core.terminal import shown
from reverie.data.decode import MAX_BYTES, SUFFIXES
from reverie.data.pool import Skipped
from reverie.data.source import Described, Files
from reverie.data.sources.annotations import METADATA, STYLEGAN, describe

DEPTH = 64  # folders inside folders
SETTLED = 2.0  # seconds; file systems keep times to 10 ms at worst but for FAT, which keeps them to 2 s


@dataclass
class Found:
    """What a search came upon.

    Arguments:
        images: name, size and time of each image.
        annotations: the same of each ``metadata.jsonl`` and ``dataset.json``.
        skipped: what looked like an image and is none.
        others: names of some other files, for messages.
    """

    images: list[tuple[str, int, int]] = field(default_factory=list)
    annotations: list[tuple[str, int, int]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def folder_source(root: Path) -> Files:
    """The images in a folder and its subfolders.

    Raises:
        RequestError: there are none.
    """
    found = _search(root)
    if not found.images:
        raise RequestError(_nothing(root, found))
    stamp = hashlib.blake2b(os.fsencode(root.resolve()), digest_size=16)
    newest = 0
    for name, size, changed in (*found.images, *found.annotations):
        stamp.update(f"{name}\0{size}\0{changed}\0".encode("utf-8", "surrogateescape"))
        newest = max(newest, changed)
    names = [name for name, _, _ in found.images]

    def read(place: int) -> bytes:
        return _read(root / names[place])

    def described() -> Described:
        return describe(names, [(name, partial(_read, root / name)) for name, _, _ in found.annotations])

    settled = newest / 1e9 < time.time() - SETTLED
    return Files("folder", names, read, described, stamp.hexdigest(), settled, tuple(found.skipped))


def _search(root: Path) -> Found:
    found = Found()
    waiting = [("", 0)]
    while waiting:
        prefix, depth = waiting.pop()
        try:
            with os.scandir(root / prefix) as entries:
                for entry in entries:
                    if not entry.name.startswith("."):
                        waiting.extend(_sort_out(entry, prefix, depth, found))
        except OSError as error:
            found.skipped.append(Skipped(prefix or str(root), f"cannot be listed: {error.strerror}"))
    found.images.sort()
    found.annotations.sort()
    found.skipped.sort()
    return found


def _sort_out(entry: os.DirEntry[str], prefix: str, depth: int, found: Found) -> Iterator[tuple[str, int]]:
    """Files an entry under what it is; yields it where it is a folder to search."""
    name = prefix + entry.name
    looks_like_image = os.path.splitext(entry.name)[1].lower() in SUFFIXES
    try:
        about = entry.stat()  # of what a link points at
        if stat.S_ISDIR(about.st_mode):
            if entry.is_symlink() or (hasattr(entry, "is_junction") and entry.is_junction()):
                found.skipped.append(Skipped(name, "a link to a folder, not followed"))
            elif depth >= DEPTH:
                found.skipped.append(Skipped(name, f"more than {DEPTH} folders deep"))
            else:
                yield name + "/", depth + 1
        elif not stat.S_ISREG(about.st_mode):
            if looks_like_image:
                found.skipped.append(Skipped(name, "a pipe, socket or device, not a file"))
        elif entry.name in (METADATA, STYLEGAN):
            if entry.is_symlink():  # its text would end up in captions: a folder speaks for itself only
                found.skipped.append(Skipped(name, "a link, not followed"))
                return
            found.annotations.append((name, about.st_size, about.st_mtime_ns))
        elif entry.name.lower().endswith(".zip"):
            found.skipped.append(Skipped(name, "a zip; name it as the source to use what it holds"))
        elif not looks_like_image:
            if len(found.others) < 3:
                found.others.append(name)
        elif about.st_size > MAX_BYTES:
            found.skipped.append(Skipped(name, f"larger than {MAX_BYTES:,} bytes"))
        else:
            found.images.append((name, about.st_size, about.st_mtime_ns))
    except OSError as error:
        if looks_like_image or not isinstance(error, FileNotFoundError):
            found.skipped.append(Skipped(name, f"cannot be opened: {error.strerror}"))


def _read(file: Path) -> bytes:
    # The search saw a plain file; without blocking, a pipe that took its place since cannot stop us.
    handle = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(handle, "rb") as stream:
        return stream.read(MAX_BYTES)


def _nothing(root: Path, found: Found) -> str:
    if found.skipped:
        first = "; ".join(map(str, found.skipped[:3]))
        return f"no image in {root} can be read: {first}"
    if found.others:
        others = ", ".join(map(shown, found.others))
        return f"no images in {root}, only other files ({others} …); images end in .png, .jpg, .webp …"
    return f"no images in {root}: it is empty"
