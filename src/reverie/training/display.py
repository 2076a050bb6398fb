"""What the user sees while a model trains: a live line in a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text


class Display(Protocol):
    """What the loop tells a display."""

    def say(self, text: str) -> None:
        """Shows a sentence."""

    def show(self, fraction: float, images: int, rate: float, batch: int, values: Mapping[str, float]) -> None:
        """Shows where training stands; ``rate`` is in images a second."""

    def doing(self, what: str) -> None:
        """Shows what goes on between two rounds; empty where that is over."""

    def close(self) -> None: ...


def memory_mib() -> float | None:
    """The process's peak memory in MiB (the GPU's where it computes there); None where it cannot be told."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def clock(seconds: float) -> str:
    """Seconds as ``1:02:03`` or ``2:03``."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def sentence(images: int, rate: float, batch: int, values: Mapping[str, float]) -> str:
    """The line's text: images, speed, losses and memory."""
    losses = "  ".join(f"{name} {value:.4g}" for name, value in values.items() if not name.endswith("/gradient"))
    memory = memory_mib()
    used = f"  {memory:,.0f} MiB" if memory else ""
    return f"{images:,} images  {rate / batch:.1f} it/s  {rate:,.0f} img/s  {losses}{used}"


class _TimeLeft(ProgressColumn):
    """Time left by the fraction done, from the start of this sitting."""

    def render(self, task: Task) -> Text:
        done = task.completed - task.fields["begun"]
        elapsed = task.elapsed or 0.0
        left = elapsed * (1.0 - task.completed) / done if done > 0.002 else None
        return Text(f"{clock(left)} left" if left is not None else "", style="cyan")


class Live:
    """A progress bar in a terminal."""

    def __init__(self, title: str, begun: float) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%"),
            _TimeLeft(),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(title, total=1.0, text="", begun=begun)
        self._bar.update(self._task, completed=begun)
        self._text = ""
        self._bar.start()

    def say(self, text: str) -> None:
        self._bar.console.print(text, highlight=False, markup=False)

    def show(self, fraction: float, images: int, rate: float, batch: int, values: Mapping[str, float]) -> None:
        self._text = sentence(images, rate, batch, values)
        self._bar.update(self._task, completed=fraction, text=self._text)

    def doing(self, what: str) -> None:
        self._bar.update(self._task, text=what or self._text)

    def close(self) -> None:
        self._bar.stop()


class Plain:
    """A line every ``every`` seconds, for logs."""

    def __init__(self, every: float = 15.0) -> None:
        self._every = every
        self._next = time.monotonic() + 1.0

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def show(self, fraction: float, images: int, rate: float, batch: int, values: Mapping[str, float]) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._every
            self.say(f"{fraction:4.0%}  {sentence(images, rate, batch, values)}")

    def doing(self, what: str) -> None:
        return None

    def close(self) -> None:
        return None


class Silent:
    """Says nothing: tests, and processes other than the first."""

    def say(self, text: str) -> None:
        return None

    def show(self, fraction: float, images: int, rate: float, batch: int, values: Mapping[str, float]) -> None:
        return None

    def doing(self, what: str) -> None:
        return None

    def close(self) -> None:
        return None


def pick_display(quiet: bool, first: bool, title: str, begun: float) -> Display:
    """The display that fits: a bar in a terminal, lines in a log, nothing in other processes or where ``quiet``."""
    if quiet or not first:
        return Silent()
    return Live(title, begun) if sys.stderr.isatty() else Plain()
