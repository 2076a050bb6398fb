"""The run folder: everything a training leaves behind, written so that a kill at any moment loses nothing older."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reverie.core.catalog import read_entry
from reverie.core.errors import RequestError
from reverie.core.recipe import Recipe, from_entry


class Run:
    """A run folder.

    Arguments:
        folder: where it is, or will be.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.recipe_file = self.folder / "recipe.yaml"
        self.model_file = self.folder / "model.safetensors"
        self.journal_file = self.folder / "journal.jsonl"
        self.checkpoints = self.folder / "checkpoints"
        self.parts = self.folder / "parts"
        self.samples = self.folder / "samples"
        self.report = self.folder / "report"

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """A run that has a trained model.

        Raises:
            RequestError: there is none in that folder.
        """
        run = cls(folder)
        if not run.folder.is_dir():
            raise RequestError(f"no run at {folder}")
        for file in (run.recipe_file, run.model_file):
            if not file.is_file():
                again = "; the command that trained it writes it again" if run.checkpoints.is_dir() else ""
                raise RequestError(f"{folder} holds no trained model: {file.name} is not there{again}")
        return run

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe.

        Raises:
            RequestError: it cannot be read.
        """
        try:
            return from_entry(read_entry(self.recipe_file))
        except RequestError as error:
            remedy = "if it is damaged, remove it: the command that trained the run writes it again"
            raise RequestError(f"{error} ({remedy})") from None

    def journal(self) -> Iterator[dict[str, Any]]:
        """The journal's events, oldest first; lines that are damaged or half-written are passed over."""
        if not self.journal_file.is_file():
            return
        with open(self.journal_file, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:
                    continue
                if isinstance(event, dict) and _is_whole(event):
                    yield event

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the run for this process; the system releases it when the process ends, however it ends.

        Raises:
            RequestError: another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / ".lock", "a+b") as handle:
            if not _try_lock(handle.fileno()):
                raise RequestError(f"{self.folder} is in use by another process; wait for it, or give another --out")
            yield

    def clear_temporary(self) -> None:
        """Removes what a killed process left half-written."""
        for leftover in [*self.folder.glob(".*.tmp"), *self.checkpoints.glob(".*.tmp")]:
            shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink(missing_ok=True)


def _is_whole(event: dict[str, Any]) -> bool:
    """Whether what all readers of a journal rely on is of its kind; single values are looked at by who reads them."""
    numbers = (event.get(name, 0.0) for name in ("images", "fraction", "seconds"))
    return (
        isinstance(event.get("event"), str)
        and type(event.get("round")) is int
        and isinstance(event.get("values", {}), dict)
        and all(isinstance(number, int | float) for number in numbers)
    )


def _try_lock(handle: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
