"""Where prepared data is kept between runs, and how a folder there comes to be all at once."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from reverie.core.errors import ReverieError

STALE = 24 * 3600.0  # seconds after which an unfinished folder was surely left by a killed process


def cache_folder(given: Path | None = None) -> Path:
    """The cache: the given folder, else ``REVERIE_CACHE``, else ``reverie`` in the platform's cache folder."""
    if given is not None:
        return given
    if named := os.environ.get("REVERIE_CACHE"):
        return Path(named).expanduser()
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "reverie" / "cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "reverie"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "reverie"


@contextlib.contextmanager
def publish(folder: Path) -> Iterator[Path]:
    """Yields an empty folder that becomes ``folder`` in one step when the block ends, and vanishes if it fails.

    Of two processes that make the same folder the first wins; both then find it complete.

    Raises:
        ReverieError: the disk is full, or the place cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder.parent)
        unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))
    except OSError as error:
        raise _failure(error, folder) from error
    try:
        yield unfinished
        for file in unfinished.iterdir():
            _flush(file)
        _rename(unfinished, folder)
    except OSError as error:
        raise _failure(error, folder) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _rename(unfinished: Path, folder: Path) -> None:
    try:
        os.rename(unfinished, folder)
    except OSError:
        if not folder.exists():
            raise
        return  # another process was first: its folder is as good
    if os.name == "posix":  # the rename itself must reach the disk; elsewhere folders cannot be opened
        _flush(folder.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_stale(parent: Path) -> None:
    for left in parent.glob(".unfinished-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE:
                shutil.rmtree(left, ignore_errors=True)


def _failure(error: OSError, folder: Path) -> ReverieError:
    if error.errno == errno.ENOSPC:
        return ReverieError(f"no space left for prepared data in {folder.parent}; set REVERIE_CACHE to a larger disk")
    return ReverieError(f"cannot write prepared data to {folder.parent}: {error.strerror}; set REVERIE_CACHE elsewhere")
