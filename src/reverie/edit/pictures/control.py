"""FreeControl: new pictures with the structure of a given one, guided by the denoiser's own features, untrained."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from reverie.core.noise import KeyedNoise
from reverie.edit import task as tasks
from reverie.edit.sheet import Sheet, strips
from reverie.edit.task import Task, solve
from reverie.maths.paths import prior_scale
from reverie.samplers.ddim import DDIM
from reverie.samplers.guidance.free_control import FreeControl
from reverie.samplers.guidance.interval import Interval
from reverie.samplers.integrate import Film

SEEDS = 32
"""Samples whose features give the axes."""


class Settings(tasks.Settings):
    """How it is done.

    Arguments:
        structure: how strongly the picture's structure is asked for.
        appearance: how strongly the look of the sample from the same noise is kept.
        until: guidance ends at this time (0 is data): later the model finishes alone.
        axes: principal axes of each feature map.
    """

    structure: float = Field(2.0, ge=0)
    appearance: float = Field(0.2, ge=0)
    until: float = Field(0.3, ge=0, le=1)
    axes: int = Field(8, ge=1)


def draw(task: Task, settings: Settings) -> Sheet:
    """The picture; for each result the sample from the same noise without control, and then with."""
    siblings, results = controlled(task, settings)
    pairs = torch.stack([task.results(siblings), task.results(results)], dim=2).flatten(1, 2)
    return strips(task.x, pairs)


def controlled(task: Task, settings: Settings) -> tuple[Tensor, Tensor]:
    """Samples without and with control, where the model denoises, ``[rows, ...]`` each."""
    times = task.times(settings)
    x_1, film = task.start(), Film()
    plain = task.clipped(task.guided(settings.guidance))
    siblings = solve(plain, DDIM(), x_1, times, task.noise("steps"), task.condition(), film)
    by_time = {1.0: x_1} | {frame.t: frame.x_t for frame in film.frames}
    guided = FreeControl(
        task.denoises,
        steers=task.steers,
        picture=task.repeated,
        seeds=_seeds(task, settings, x_1),
        noise=task.normal("structure"),
        maps=task.later_maps,
        structure=settings.structure,
        appearance=settings.appearance,
        siblings=by_time,
        axes=settings.axes,
    )
    held = task.clipped(task.guided(settings.guidance, Interval(task.denoises, guided, settings.until, 1.0)))
    return siblings, solve(held, DDIM(), x_1, times, task.noise("steps"), task.condition())


def _seeds(task: Task, settings: Settings, x_1: Tensor) -> Tensor:
    """Samples of the model."""
    more = KeyedNoise(task.seed, torch.arange(SEEDS, device=x_1.device), "seeds")
    x = prior_scale(task.denoises.path) * more.normal(*x_1.shape[1:])
    return solve(task.clipped(task.denoises), DDIM(), x, task.times(settings), more, task.condition(SEEDS))
