"""Files that hold their old content or their new one, whatever happens."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

from reverie.core.errors import ReverieError


def write_atomically(file: Path, content: bytes) -> None:
    """Writes a file so that it holds either its old or its new content, whatever happens.

    Raises:
        ReverieError: the disk is full or refuses.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise disk_error(error, file) from error
    sync_folder(file.parent)


def disk_error(error: BaseException, file: Path) -> ReverieError:
    """What to tell the user when ``file`` could not be written."""
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
    what = "the disk is full" if full else str(error)
    return ReverieError(f"cannot write {file}: {what}; the last complete checkpoint is kept, the same command resumes")


def sync_folder(folder: Path) -> None:
    """Makes a rename in ``folder`` survive a power cut, where the system can say so (Windows cannot)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def sha256(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
