"""The journal: one JSON line an event, in ``journal.jsonl``; TensorBoard events beside it where wanted."""

from __future__ import annotations

import json
import os
from typing import Any, TextIO

from reverie.core.errors import RequestError
from reverie.core.files import RESUMES, disk_error
from reverie.core.run import Run


class Journal:
    """Creates the journal of a run, going on from round ``start``; lines of later rounds are dropped.

    Arguments:
        run: the folder.
        start: the round that training goes on from.
        tensorboard: write TensorBoard events too.

    Raises:
        RequestError: TensorBoard is wanted and not installed.
    """

    def __init__(self, run: Run, start: int, tensorboard: bool = False) -> None:
        self._file = run.journal_file
        kept = [event for event in run.journal() if event.get("round", 0) <= start] if start else []
        temporary = self._file.with_name(f".{self._file.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text("".join(json.dumps(event) + "\n" for event in kept), encoding="utf-8")
            os.replace(temporary, self._file)
            self._stream: TextIO = open(self._file, "a", encoding="utf-8")  # noqa: SIM115 (closed in close)
        except OSError as error:
            raise disk_error(error, self._file, RESUMES) from error
        self._board: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise RequestError(
                    "train.tensorboard needs tensorboard: pip install '.[track]' in Reverie's folder"
                ) from None
            self._board = SummaryWriter(str(run.folder / "tensorboard"), purge_step=start)

    def write(self, event: str, round: int, **fields: Any) -> None:
        """Adds a line; numbers keep six significant digits.

        Raises:
            ReverieError: the disk is full or refuses.
        """
        line = {"event": event, "round": round, **{k: _short(v) for k, v in fields.items()}}
        try:
            self._stream.write(json.dumps(line) + "\n")
            self._stream.flush()
        except OSError as error:
            raise disk_error(error, self._file, RESUMES) from error
        if self._board and event == "log":
            for name, value in fields["values"].items():
                self._board.add_scalar(name, value, round)

    def close(self) -> None:
        self._stream.close()
        if self._board:
            self._board.close()


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {k: _short(v) for k, v in value.items()}
    return value
