"""Training and held-out rows, chosen by each row's own content and by nothing else."""

from __future__ import annotations

import hashlib

import numpy as np

DIGEST = 16  # bytes


def digest(content: bytes | memoryview) -> bytes:
    """The hash that stands for a row's content."""
    return hashlib.blake2b(content, digest_size=DIGEST).digest()


def digests_of(rows: np.ndarray) -> np.ndarray:
    """The digest of each row of an array, uint8 ``[N, 16]``."""
    rows = np.ascontiguousarray(rows)
    return np.frombuffer(b"".join(digest(row.data) for row in rows), dtype=np.uint8).reshape(-1, DIGEST)


def is_held_out(digests: np.ndarray, share: float) -> np.ndarray:
    """Which rows are held out: those whose digest, read as a number in [0, 1), is under ``share``.

    A row's side never depends on other rows, so it stays whatever is added or removed, a larger share holds
    out the same rows and more, and copies of an image stand on the same side.

    Arguments:
        digests: uint8 ``[N, 16]``.
        share: in [0, 1).

    Returns:
        bool ``[N]``.
    """
    leading = np.ascontiguousarray(digests[:, :8]).view(">u8")[:, 0]
    return leading < np.uint64(int(share * 2**64))
