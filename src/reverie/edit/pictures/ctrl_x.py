"""Ctrl-X: the structure of one picture in the appearance of another (--to), through the denoiser's own features."""

from __future__ import annotations

from pydantic import Field

from reverie.core.errors import RequestError
from reverie.edit import task as tasks
from reverie.edit.sheet import Sheet, strips
from reverie.edit.task import Task, solve
from reverie.samplers.ddim import DDIM
from reverie.samplers.guidance.ctrl_x import CtrlX


class Settings(tasks.Settings):
    """How it is done.

    Arguments:
        structure: down to this time (0 is data) features are taken from the structure, 1 for none.
        appearance: down to this time features are given the appearance, 1 for none.
        eta: the share of fresh noise in each step.
    """

    structure: float = Field(0.1, ge=0, le=1)
    appearance: float = Field(0.6, ge=0, le=1)
    eta: float = Field(1.0, ge=0, le=1)


def draw(task: Task, settings: Settings) -> Sheet:
    """The structure, the appearance, and results."""
    if task.others is None or len(task.others) not in (1, len(task.x)):
        raise RequestError(
            f"ctrl-x needs --to, one picture for the appearance or as many as structures ({len(task.x)})"
        )
    others = task.others.expand_as(task.x)
    maps = task.later_maps
    steered = CtrlX(
        task.denoises,
        steers=task.steers,
        structure=task.repeated,
        appearance=task.denoises.enter(others).repeat_interleave(task.count, 0),
        noise=task.normal("pictures"),
        structure_maps=maps,
        appearance_maps=(*maps, maps[-1] + 1),
        structure_until=settings.structure,
        appearance_until=settings.appearance,
    )
    times = task.times(settings)
    x = solve(
        task.clipped(task.guided(settings.guidance, steered)),
        DDIM(settings.eta),
        task.start(),
        times,
        task.noise("steps"),
        task.condition(),
    )
    return strips(task.x, others, task.results(x))
