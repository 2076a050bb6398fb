"""Restoring from any linear operator: a function of yours in a Python file."""

from __future__ import annotations

from reverie.core.errors import RequestError
from reverie.edit.restoring import Restoring, strip
from reverie.edit.sheet import Sheet
from reverie.edit.task import Task
from reverie.maths.operators import Function


class Settings(Restoring):
    """How it is done."""


def draw(task: Task, settings: Settings) -> Sheet:
    """The picture of least norm that looks like what is seen, and results.

    A file is what the operator left, where that has the shape of a picture; of a row, and of a file where it has
    another shape, the operator leaves it here.
    """
    if task.operator is None:
        raise RequestError("restore needs --operator FILE.py:NAME, a function of images [B, C, H, W]")
    operator = Function(task.operator, task.model.space)
    y = operator(task.x)
    if task.given and y.shape == task.x.shape:
        y = task.x
    return strip(task, operator, operator.pseudo_inverse(y), settings, y=y)
