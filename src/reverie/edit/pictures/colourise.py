"""Colourisation: pictures whose grey is that of a grey one."""

from __future__ import annotations

from reverie.edit.restoring import Restoring, strip
from reverie.edit.sheet import Sheet
from reverie.edit.task import Task
from reverie.maths.operators import grey


class Settings(Restoring):
    """How it is done."""


def draw(task: Task, settings: Settings) -> Sheet:
    """The grey picture, and coloured ones that come to it."""
    operator = grey(task.model.space)
    return strip(task, operator, operator(task.x).expand_as(task.x), settings)
