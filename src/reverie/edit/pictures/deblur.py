"""Deblurring: sharp pictures that a Gaussian blur takes to a blurred one."""

from __future__ import annotations

from pydantic import Field

from reverie.edit.restoring import Restoring, strip
from reverie.edit.sheet import Sheet
from reverie.edit.task import Task
from reverie.maths.operators import blur


class Settings(Restoring):
    """How it is done.

    Arguments:
        sigma: the blur's standard deviation in pixels.
    """

    sigma: float = Field(1.5, gt=0)


def draw(task: Task, settings: Settings) -> Sheet:
    """The blurred picture, and sharp ones that come to it. A file is blurred already; a row is blurred first."""
    operator = blur(task.model.space, settings.sigma)
    seen = task.x if task.given else operator(task.x)
    return strip(task, operator, seen, settings, y=seen)
