"""Inversion: the noise that the model's own flow takes to a picture, and the picture that it is taken back to.

References:
    | Denoising Diffusion Implicit Models (Song, Meng and Ermon, 2021), Section 4.3 and Equation 14
    | https://arxiv.org/abs/2010.02502
"""

from __future__ import annotations

from torch import Tensor

from reverie.edit import task as tasks
from reverie.edit.sheet import Sheet, strips
from reverie.edit.task import Task, solve
from reverie.maths.paths import prior_scale
from reverie.samplers.ddim import DDIM
from reverie.samplers.solver import BothWays


class Settings(tasks.Settings):
    """How it is done.

    Arguments:
        solver: a deterministic one of one step: ``ddim`` (order 1), ``heun`` (order 2, twice the work).
    """

    solver: BothWays = DDIM()


def draw(task: Task, settings: Settings) -> Sheet:
    """The picture, its noise (grey is 0, black and white 2 and beyond), and the picture again."""
    z = inverted(task, task.repeated, settings)
    return strips(
        task.x,
        task.results(z / (2 * prior_scale(task.denoises.path)))[:, :1],
        task.results(taken_back(task, z, settings))[:, :1],
    )


def inverted(task: Task, x: Tensor, settings: Settings) -> Tensor:
    """The noise of rows ``[B, ...]``."""
    times = task.times(settings)[::-1]
    condition = task.condition(len(x))
    return solve(task.clipped(task.denoises), settings.solver, x, times, task.noise("unused"), condition)


def taken_back(task: Task, z: Tensor, settings: Settings) -> Tensor:
    """Rows ``[B, ...]`` of noise."""
    times, condition = task.times(settings), task.condition(len(z))
    return solve(task.clipped(task.denoises), settings.solver, z, times, task.noise("unused"), condition)
