r"""Variations of a picture: its noise, found by inversion, is moved part of the way to other noise, and decoded.

.. math:: z' = \text{circle}(z, \epsilon, \text{strength})

on great circles, so that z' is noise as the model knows it. Strength 0 is the picture, up to the error of the steps,
and 1 a new sample; in between what changes last is what the noise decides first: the layout stays, details go.

References:
    | Denoising Diffusion Implicit Models (Song, Meng and Ermon, 2021), Section 4.3 and Appendix D.5
    | https://arxiv.org/abs/2010.02502
"""

from __future__ import annotations

import torch
from pydantic import Field

from reverie.edit.between import circle
from reverie.edit.pictures import invert
from reverie.edit.sheet import Sheet, strips
from reverie.edit.task import Task


class Settings(invert.Settings):
    """How it is done.

    Arguments:
        strength: how far to other noise, 0 to 1.
    """

    strength: float = Field(0.3, ge=0, le=1)


def draw(task: Task, settings: Settings) -> Sheet:
    """The picture, and variations."""
    z = invert.inverted(task, task.repeated, settings)
    t = z.new_tensor([settings.strength])
    moved = torch.cat([circle(a, b, t) for a, b in zip(z, task.start(), strict=True)])
    return strips(task.x, task.results(invert.taken_back(task, moved, settings)))
