"""A zip of images, of the layout of a folder or of StyleGAN's ``dataset_tool``; nothing is ever unpacked to disk."""

from __future__ import annotations

import hashlib
import os
import stat
import time
import zipfile
import zlib
from functools import partial
from pathlib import Path

from reverie.core.errors import RequestError
from reverie.data.decode import MAX_BYTES, SUFFIXES, BrokenImageError
from reverie.data.pool import Skipped
from reverie.data.source import Described, Files
from reverie.data.sources.annotations import METADATA, STYLEGAN, describe
from reverie.data.sources.folder import SETTLED

ENCRYPTED = 0x1  # flag bit


def zip_source(file: Path) -> Files:
    """The images in a zip.

    Raises:
        RequestError: it is no zip, or holds no images.
    """
    try:
        archive = zipfile.ZipFile(file)
        about = file.stat()
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise RequestError(f"{file} is not a zip that can be read: {error}") from None
    images, annotations, skipped = _sort_out(archive)
    if not images:
        first = "; ".join(map(str, skipped[:3]))
        raise RequestError(f"no image in {file} can be read: {first}" if skipped else f"no images in {file}")
    prefix = _common_folder([*images, *annotations])
    places = sorted(images)
    names = [name.removeprefix(prefix) for name in places]

    def read(place: int) -> bytes:
        return _read(archive, images[places[place]])

    def described() -> Described:
        found = sorted(annotations.items())
        return describe(names, [(name.removeprefix(prefix), partial(_read, archive, info)) for name, info in found])

    text = f"{file.resolve()}\0{about.st_size}\0{about.st_mtime_ns}"
    stamp = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    settled = about.st_mtime_ns / 1e9 < time.time() - SETTLED
    return Files("zip", names, read, described, stamp, settled, tuple(skipped))


Entries = dict[str, zipfile.ZipInfo]


def _sort_out(archive: zipfile.ZipFile) -> tuple[Entries, Entries, list[Skipped]]:
    images: Entries = {}
    annotations: Entries = {}
    skipped: list[Skipped] = []
    for info in archive.infolist():
        name = info.filename.replace("\\", "/")
        parts = name.split("/")
        if info.is_dir() or any(part.startswith((".", "__MACOSX")) and part != ".." for part in parts):
            continue
        is_image = os.path.splitext(name)[1].lower() in SUFFIXES
        if not is_image and parts[-1] not in (METADATA, STYLEGAN):
            continue
        if name.startswith("/") or ".." in parts:
            skipped.append(Skipped(name, "its name points outside the zip"))
        elif stat.S_ISLNK(info.external_attr >> 16):
            skipped.append(Skipped(name, "a link, not a file"))
        elif info.flag_bits & ENCRYPTED:
            skipped.append(Skipped(name, "encrypted"))
        elif info.file_size > MAX_BYTES:
            skipped.append(Skipped(name, f"larger than {MAX_BYTES:,} bytes"))
        else:
            (images if is_image else annotations)[name] = info
    return images, annotations, skipped


def _common_folder(names: list[str]) -> str:
    """The one folder that everything is in, as when a folder itself was zipped; empty where there is none."""
    first = {name.partition("/")[0] if "/" in name else "" for name in names}
    return f"{first.pop()}/" if len(first) == 1 and "" not in first else ""


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(info) as stream:
            return stream.read(MAX_BYTES)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise BrokenImageError(" ".join(str(error).split()) or type(error).__name__) from None
