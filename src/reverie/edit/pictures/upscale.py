"""Super-resolution: pictures whose means over squares of pixels are those of a small one."""

from __future__ import annotations

from pydantic import Field

from reverie.edit.restoring import Restoring, strip
from reverie.edit.sheet import Sheet
from reverie.edit.task import Task
from reverie.maths.operators import downsample


class Settings(Restoring):
    """How it is done.

    Arguments:
        factor: how many times as wide the result is.
    """

    factor: int = Field(4, ge=2)


def draw(task: Task, settings: Settings) -> Sheet:
    """The small picture, and large ones that come to it."""
    operator = downsample(task.model.space, settings.factor)
    # A picture from a file is the small one, however it came; here it stands at full size.
    return strip(task, operator, operator.pseudo_inverse(operator(task.x)), settings)
