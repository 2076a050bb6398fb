"""What a solver is, and how one is found by name: ``samplers/<name>.py``, one algorithm a file.

A solver is a frozen record of its own options. In a recipe, and on the command line, it is its name, or its name and
some options: ``solver: heun``, ``solver: {name: edm, churn: 40}``, ``solver.churn=40``. A model that has

    class Sampling(core.Sampling):
        solver: SolverChoice = Euler()

takes all of these, checked when the recipe is read, and has a solver in ``sampling.solver``.
"""

from __future__ import annotations

import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, PlainSerializer, PlainValidator, ValidationError
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises
from reverie.core.errors import RequestError, nearest
from reverie.core.noise import Noise
from reverie.maths.paths import per_row
from reverie.maths.predictions import noise as noise_of

OPTIONS = ConfigDict(extra="forbid", allow_inf_nan=False)
"""How a solver's dataclass checks its options: ``@dataclass(frozen=True, config=OPTIONS)``, that of pydantic."""

State = tuple[Tensor, ...]
"""What a solver remembers between steps; empty for methods of one step."""


class Solver(ABC):
    """Takes rows from one time to another, towards data (s < t) or towards noise (s > t).

    A solver sees a denoiser and nothing else: no network, no guidance, no loop.
    """

    @property
    def both_ways(self) -> bool:
        """Whether it draws no noise and needs no past: then it takes data to their noise, too."""
        return False

    def init(self, x_t: Tensor, steps: int = 1) -> State:
        """The state before the first of so many steps."""
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


def find_solver(choice: str | Mapping[str, Any] | Solver) -> Solver:
    """The solver of a name, or of a name and options, as in ``{name: edm, churn: 40}``; a solver is itself.

    Raises:
        RequestError: there is none, or it has no such option; the message names the nearest. Or a value does not fit.
    """
    if isinstance(choice, Solver):
        return choice
    options = {"name": choice} if isinstance(choice, str) else choice
    if not isinstance(options, Mapping) or not isinstance(options.get("name"), str):
        raise RequestError(f"solver = {choice!r}: write a name, as in heun, or {{name: edm, churn: 40}}")
    name, known = options["name"], solvers()
    if name not in known:
        raise RequestError(f"no solver '{name}'{nearest(name, known)}")
    options = {key: value for key, value in options.items() if key != "name"}
    has = [field.name for field in fields(known[name])]  # type: ignore[arg-type]  # every solver is a dataclass
    for key in options:
        if key not in has:
            raise RequestError(f"unknown key 'solver.{key}'{nearest(str(key), has)}")
    for key, value in options.items():
        if isinstance(value, bool):  # no solver has a switch, and pydantic takes true for 1
            raise RequestError(f"solver.{key}: write a number, not {str(value).lower()}")
    try:
        return known[name](**options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RequestError(f"solver.{first['loc'][0]} = {first['input']!r}: {first['msg']}") from None


def written(solver: Solver) -> str | dict[str, Any]:
    """A solver as a recipe says it: what ``find_solver`` takes back."""
    name = type(solver).__module__.rpartition(".")[2].replace("_", "-")
    options = asdict(solver)  # type: ignore[call-overload]  # every solver is a dataclass
    return {"name": name, **options} if options else name


SolverChoice = Annotated[Solver, PlainValidator(find_solver), PlainSerializer(written)]
"""The type of a field that chooses a solver."""


def both_ways(solver: Solver) -> Solver:
    """The solver itself.

    Raises:
        RequestError: it goes towards data only.
    """
    if not solver.both_ways:
        said = written(solver)
        if isinstance(said, dict):
            said = "{" + ", ".join(f"{key}: {value}" for key, value in said.items()) + "}"
        raise RequestError(
            f"solver = {said} goes towards data only: take one that runs both ways, as ddim (eta = 0) or heun"
        )
    return solver


BothWays = Annotated[SolverChoice, AfterValidator(both_ways)]
"""The type of a field that chooses a solver without noise, of one step, which runs both ways."""
