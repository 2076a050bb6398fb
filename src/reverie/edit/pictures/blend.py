"""From one picture to another: both are inverted, and what lies between their noise on great circles is decoded.

References:
    | Denoising Diffusion Implicit Models (Song, Meng and Ermon, 2021), Section 5.3
    | https://arxiv.org/abs/2010.02502
"""

from __future__ import annotations

import torch
from pydantic import Field

from reverie.core.errors import RequestError
from reverie.edit.between import circle
from reverie.edit.pictures import invert
from reverie.edit.sheet import Sheet, strips
from reverie.edit.task import Task


class Settings(invert.Settings):
    """How it is done.

    Arguments:
        stops: pictures a strip, both ends included.
    """

    stops: int = Field(7, ge=2, le=1000)


def draw(task: Task, settings: Settings) -> Sheet:
    """The first picture, what lies between as the model draws it, the second."""
    if task.others is None or len(task.others) != len(task.x):
        raise RequestError(f"blend needs --to, as many pictures as there are first ones ({len(task.x)})")
    z_1, z_2 = (invert.inverted(task, task.denoises.enter(x), settings).unbind() for x in (task.x, task.others))
    t = torch.linspace(0, 1, settings.stops, device=task.x.device)
    z = torch.cat([circle(a, b, t) for a, b in zip(z_1, z_2, strict=True)])
    between = task.denoises.leave(invert.taken_back(task, z, settings)).unflatten(0, (len(task.x), settings.stops))
    return strips(task.x, between, task.others)
