"""What a solver is, and how one is found by name: ``samplers/<name>.py``, one algorithm a file."""

from __future__ import annotations

import importlib
import inspect
from abc import ABC, abstractmethod
from pathlib import Path

from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises
from reverie.core.errors import RequestError, nearest
from reverie.core.noise import Noise
from reverie.maths.paths import per_row
from reverie.maths.predictions import noise as noise_of

State = tuple[Tensor, ...]
"""What a solver remembers between steps; empty for methods of one step."""


class Solver(ABC):
    """Takes rows from one time to another, towards data (s < t) or towards noise (s > t).

    A solver sees a denoiser and nothing else: no network, no guidance, no loop.
    """

    def init(self, x_t: Tensor) -> State:
        """The state before the first step."""
        return ()

    @abstractmethod
    def step(
        self,
        model: Denoises,
        x_t: Tensor,
        t: Tensor,
        s: Tensor,
        condition: Condition | None,
        noise: Noise,
        state: State,
    ) -> tuple[Tensor, State]:
        """Returns x_s and the new state.

        Arguments:
            model: whose rows they are.
            x_t: rows ``[B, ...]`` at time t.
            t: from when, ``[B]``.
            s: to when, ``[B]``.
            condition: what rows are conditioned on.
            noise: all randomness of the step.
            state: what ``init`` or the step before returned.
        """


def estimate(model: Denoises, x_t: Tensor, t: Tensor, condition: Condition | None) -> tuple[Tensor, Tensor]:
    """The means of x_0 and of eps, given x_t."""
    alpha_t, sigma_t = model.path(t)
    x_0 = model.denoise(x_t, t, condition).mean
    return x_0, noise_of(x_0, x_t, per_row(alpha_t, x_t), per_row(sigma_t, x_t))


def solvers() -> dict[str, type[Solver]]:
    """Every solver there is, by file name."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("*.py")):
        if file.stem not in ("__init__", Path(__file__).stem):
            module = importlib.import_module(f"reverie.samplers.{file.stem}")
            for value in vars(module).values():
                if inspect.isclass(value) and issubclass(value, Solver) and value.__module__ == module.__name__:
                    found[file.stem.replace("_", "-")] = value
    return found


def find_solver(name: str) -> Solver:
    """The solver of that name.

    Raises:
        RequestError: there is none; the message names the nearest.
    """
    known = solvers()
    if name not in known:
        raise RequestError(f"no solver '{name}'{nearest(name, known)}")
    return known[name]()
