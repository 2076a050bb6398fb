"""What stops a training: numbers that are not finite, and signals."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

import torch
from torch import Tensor, nn

from reverie.core.errors import ReverieError


class Interrupted(ReverieError):
    """The user, or the system, asked the training to stop; its state is safe. Exit code 130."""

    exit_code = 130


class Broken(ReverieError):
    """A loss or a gradient that is not finite.

    Arguments:
        message: what the user is told.
        player: whose.
        term: the term of the loss; empty for a gradient.
    """

    def __init__(self, message: str, player: str, term: str = "") -> None:
        super().__init__(message)
        self.player, self.term = player, term


def check_terms(terms: Mapping[str, Tensor], player: str, step: int) -> None:
    """Stops at a loss that is not finite.

    Raises:
        Broken: it names the player, the term and the step.
    """
    values = torch.stack([term.detach().float().reshape(()) for term in terms.values()])
    if bool(torch.isfinite(values).all()):
        return
    name = next(name for name, value in zip(terms, values, strict=True) if not bool(torch.isfinite(value)))
    raise Broken(
        f"step {step}: the {player}'s loss term '{name}' is {float(terms[name].detach())}; stopped, checkpoints "
        "are kept. Try a lower learning rate, gradient clipping, or train.precision=fp32, with another --out",
        player,
        name,
    )


def gradient_norm(weights: Sequence[nn.Parameter], player: str, step: int, terms: Sequence[str]) -> Tensor:
    """The norm of all gradients of a player.

    Raises:
        Broken: a gradient is not finite; names the player, the loss's terms, and the step.
    """
    gradients = [p.grad for p in weights if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    norm = torch.nn.utils.get_total_norm(gradients)
    if not bool(torch.isfinite(norm)):
        raise Broken(
            f"step {step}: the {player}'s gradient (of {', '.join(terms)}) is not finite; stopped, checkpoints "
            "are kept. Try a lower learning rate, gradient clipping, or train.precision=fp32, with another --out",
            player,
        )
    return norm


class Stop:
    """Says whether the training was asked to stop; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.asked: str | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = signal.Signals(number).name


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Within it, Ctrl-C and SIGTERM ask for a stop after the present round instead of killing it."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # Python delivers signals to the main thread only
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
