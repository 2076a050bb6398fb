"""What is shown in a terminal: names that cannot speak to it, and a bar while images are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def shown(text: str) -> str:
    """Text as it can be printed: file names may hold line breaks, terminal codes and bytes that are no text."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@contextmanager
def reading_bar() -> Iterator[Callable[[int, int], None]]:
    """Within it, a bar that appears with the first call ``(done, total)`` and is gone afterwards."""
    columns = (TextColumn("reading images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)
