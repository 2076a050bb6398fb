r"""SDEdit: strokes, or any picture, are noised part of the way and denoised from there.

.. math:: x_t = \alpha_t x + \sigma_t \epsilon, \quad t = \text{strength}

Little noise keeps the strokes, much of it makes a better picture.

References:
    | SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations (Meng et al., 2022), Algorithm 1
    | https://arxiv.org/abs/2108.01073
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from reverie.edit import task as tasks
from reverie.edit.sheet import Sheet, strips
from reverie.edit.task import Task, solve
from reverie.maths.paths import per_row
from reverie.samplers.ddim import DDIM


class Settings(tasks.Settings):
    """How it is done.

    Arguments:
        strength: t, from 0, the picture itself, to 1, a new sample.
        eta: the share of fresh noise in each step.
    """

    strength: float = Field(0.5, ge=0, le=1)
    eta: float = Field(1.0, ge=0, le=1)


def draw(task: Task, settings: Settings) -> Sheet:
    """The picture, and what became of it."""
    return strips(task.x, task.results(edited(task, settings)))


def edited(task: Task, settings: Settings) -> Tensor:
    """Rows where the model denoises."""
    x = task.repeated
    if settings.strength == 0:
        return x
    alpha_t, sigma_t = (per_row(a, x) for a in task.denoises.path(x.new_full((len(x),), settings.strength)))
    model = task.clipped(task.guided(settings.guidance))
    times = task.times(settings, settings.strength)
    x_t = alpha_t * x + sigma_t * task.normal("start")
    return solve(model, DDIM(settings.eta), x_t, times, task.noise("steps"), task.condition())
