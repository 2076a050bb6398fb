"""The one loop around a solver: progress, film-strips and early stops live here, for every solver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises
from reverie.core.noise import Noise
from reverie.samplers.guidance.wrapper import BlowsUp
from reverie.samplers.solver import Solver


class Frame(NamedTuple):
    """Where the loop is after a step.

    Arguments:
        step: steps taken.
        steps: steps in all.
        t: the time reached.
        x_t: the rows there, ``[B, ...]``.
    """

    step: int
    steps: int
    t: float
    x_t: Tensor


Watch = Callable[[Frame], bool | None]
"""Called after every step; returning True stops the loop."""


@dataclass
class Film:
    """A watcher that keeps frames: pass it as ``watch``, then read ``frames``.

    Arguments:
        every: steps between frames; the last step is always kept.
        frames: what was kept so far.
    """

    every: int = 1
    frames: list[Frame] = field(default_factory=list)

    def __call__(self, frame: Frame) -> None:
        if frame.step % self.every == 0 or frame.step == frame.steps:
            self.frames.append(frame)


def integrate(
    model: Denoises,
    solver: Solver,
    x: Tensor,
    times: Sequence[float],
    noise: Noise,
    condition: Condition | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """Takes rows through times with a solver and returns them at the last time reached.

    Arguments:
        model: a denoiser, perhaps wrapped in guidance.
        solver: how to step.
        x: rows ``[B, ...]`` at ``times[0]``.
        times: at least two, falling towards data or rising towards noise, in [0, 1].
        noise: all randomness of the steps.
        condition: what rows are conditioned on.
        watch: called after every step; returning True stops.

    Raises:
        BlowsUp: guidance is too strong; the message names the setting and the step.
    """
    state = solver.init(x, len(times) - 1)
    for step, (t, s) in enumerate(pairwise(times), start=1):
        t_rows, s_rows = (torch.full((len(x),), time, dtype=x.dtype, device=x.device) for time in (t, s))
        try:
            x, state = solver.step(model, x, t_rows, s_rows, condition, noise, state)
        except BlowsUp as error:
            raise BlowsUp(error.what, error.t, f"step {step} of {len(times) - 1}") from None
        if watch is not None and watch(Frame(step, len(times) - 1, s, x)):
            break
    return x
