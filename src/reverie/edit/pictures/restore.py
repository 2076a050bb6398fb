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
    """The picture of least norm that looks like what is seen, and results."""
    if task.operator is None:
        raise RequestError("restore needs --operator FILE.py:NAME, a function of images [B, C, H, W]")
    operator = Function(task.operator, task.model.space)
    return strip(task, operator, operator.pseudo_inverse(operator(task.x)), settings)
