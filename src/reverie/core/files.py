"""Files that hold their old content or their new one, whatever happens."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

from reverie.core.errors import RequestError, ReverieError

RESUMES = "the last complete checkpoint is kept, the same command resumes"
"""What a training that cannot write has to tell."""


def check_file(file: Path, kinds: tuple[str, ...], writer: str) -> None:
    """Says before any work whether a file of some kinds can be written there.

    Arguments:
        file: where.
        kinds: the endings that it may have.
        writer: who writes it, for the message.

    Raises:
        RequestError: its ending is of no such kind, it is a folder, or it lies in what is none.
    """
    if file.is_dir():
        raise RequestError(f"{file} is a folder; {writer} writes a {' or a '.join(kinds)} file")
    if file.suffix.lower() not in kinds:
        raise RequestError(f"{file.name}: {writer} writes a {' or a '.join(kinds)} file")
    check_above(file)


def check_above(place: Path) -> None:
    """Says before any work whether what is above a file or a folder are folders, or can become some.

    Raises:
        RequestError: one is a file.
    """
    above = next((p for p in place.parents if p.exists()), None)
    if above is not None and not above.is_dir():
        raise RequestError(f"{above} is a file, not a folder; name another place")


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
    except BaseException as error:  # Ctrl-C leaves nothing behind either
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise disk_error(error, file) from error
        raise
    sync_folder(file.parent)


def disk_error(error: BaseException, file: Path, then: str | None = None) -> ReverieError:
    """What to tell the user when ``file`` could not be written.

    Arguments:
        error: what was raised.
        file: what was to be written.
        then: what is kept and what to do, where there is more to say than that the command is to be repeated.
    """
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
    what = "the disk is full" if full else getattr(error, "strerror", None) or str(error)
    then = then or ("free some space and repeat the command" if full else "give another place to write to")
    return ReverieError(f"cannot write {file}: {what}; {then}")


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
