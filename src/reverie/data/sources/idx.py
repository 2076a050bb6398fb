"""IDX files, plain or gzip: the format of MNIST and Fashion-MNIST.

A big-endian header (two zero bytes, the type 8 for bytes, the number of dimensions, then each of them), then
the values.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from reverie.core.errors import RequestError
from reverie.data.pool import Facts
from reverie.data.source import Described, Pixels

CHUNK = 1024  # rows
IMAGES = re.compile(r"(?P<part>.*)images(?P<dot>[-.])idx3-ubyte(\.gz)?$")
TEST_PARTS = ("t10k", "test")


def is_idx(file: Path) -> bool:
    """Whether a file's name is that of an IDX file of images."""
    return IMAGES.fullmatch(file.name) is not None


def idx_folder(folder: Path) -> Pixels | None:
    """The images of the IDX files in a folder, a ``t10k`` or ``test`` part held out; None where there are none.

    Raises:
        RequestError: there is more than one training part, or a file is damaged.
    """
    files = sorted(file for file in folder.iterdir() if is_idx(file) and file.is_file())
    parts = {cast(re.Match[str], IMAGES.fullmatch(file.name))["part"]: file for file in files}
    test = [file for part, file in parts.items() if part.rstrip("-_.").endswith(TEST_PARTS)]
    train = [file for file in parts.values() if file not in test]
    if not files:
        return None
    if len(train) > 1 or len(test) > 1:
        raise RequestError(f"{folder} holds several IDX sets; name one images file: {train[0] if train else test[0]}")
    return idx_source(train[0], test[0]) if train and test else idx_source(files[0])


def idx_source(images: Path, test: Path | None = None) -> Pixels:
    """The images of one IDX file, with the labels that stand beside it.

    Arguments:
        images: the training images, or all of them.
        test: the images that are held out.

    Raises:
        RequestError: a file is not IDX, is cut short, or its labels do not fit.
    """
    files = [images] if test is None else [images, test]
    shapes = [_shape(file, 3) for file in files]
    if len({shape[1:] for shape in shapes}) > 1:
        raise RequestError(f"{images} and {test} hold images of different sizes")
    counts = [shape[0] for shape in shapes]
    values = [_labels(file, count) for file, count in zip(files, counts, strict=True)]
    held_out = np.repeat(np.array([False, True])[: len(files)], counts) if test else None
    facts = Facts(held_out=held_out)
    if all(value is not None for value in values):
        known, labels = np.unique(np.concatenate(cast(list[np.ndarray], values)), return_inverse=True)
        facts = Facts(labels=labels.astype(np.int64), classes=tuple(str(v) for v in known), held_out=held_out)

    def chunks() -> Iterator[np.ndarray]:
        for file in files:
            yield from _chunks(file)

    height, width = shapes[0][1:]
    return Pixels("IDX", _content(files), (1, height, width), sum(counts), chunks, Described(facts))


def read_idx(file: Path) -> np.ndarray:
    """All values of a small IDX file of bytes in three dimensions, ``[N, H, W]``."""
    return np.concatenate(list(_chunks(file)))[:, 0]


def _open(file: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb"))


def _read(stream: BinaryIO, count: int, file: Path) -> bytes:
    """Exactly ``count`` bytes, so that a gzip bomb yields no more than the header promises."""
    try:
        raw = stream.read(count)
    except (OSError, EOFError, zlib.error) as error:
        raise RequestError(f"{file} cannot be read: {error}") from None
    if len(raw) < count:
        raise RequestError(f"{file} is cut short; fetch it again")
    return raw


def _shape(file: Path, dimensions: int) -> tuple[int, ...]:
    with _open(file) as stream:
        return _header(stream, file, dimensions)


def _header(stream: BinaryIO, file: Path, dimensions: int) -> tuple[int, ...]:
    if _read(stream, 4, file) != bytes([0, 0, 8, dimensions]):
        raise RequestError(f"{file} is not an IDX file of bytes in {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", _read(stream, 4 * dimensions, file))
    if 0 in shape or max(shape[1:], default=1) > 4096:
        raise RequestError(f"{file} says that its values are {shape}, which cannot be images")
    return shape


def _chunks(file: Path) -> Iterator[np.ndarray]:
    with _open(file) as stream:
        count, height, width = _header(stream, file, 3)
        for start in range(0, count, CHUNK):
            rows = min(CHUNK, count - start)
            raw = _read(stream, rows * height * width, file)
            yield np.frombuffer(raw, dtype=np.uint8).reshape(rows, 1, height, width)


def _labels_file(images: Path) -> Path | None:
    match = cast(re.Match[str], IMAGES.fullmatch(images.name))
    stem = images.with_name(f"{match['part']}labels{match['dot']}idx1-ubyte")
    return next((file for file in (stem, stem.with_name(stem.name + ".gz")) if file.is_file()), None)


def _labels(images: Path, count: int) -> np.ndarray | None:
    if not is_idx(images) or (file := _labels_file(images)) is None:
        return None
    with _open(file) as stream:
        shape = _header(stream, file, 1)
        if shape != (count,):
            raise RequestError(f"{file} has {shape[0]:,} labels for {count:,} images in {images.name}")
        return np.frombuffer(_read(stream, count, file), dtype=np.uint8)


def _content(images: list[Path]) -> str:
    key = hashlib.blake2b(digest_size=16)
    for file in images:
        for part in (file, _labels_file(file) if is_idx(file) else None):
            key.update(b"/")
            if part is not None:
                with part.open("rb") as stream:
                    key.update(hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).digest())
    return key.hexdigest()
