"""Inpainting: what a mask or a box covers is drawn anew, everything else stays as it is, to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from reverie.core.errors import RequestError
from reverie.edit.restoring import Restoring, restored
from reverie.edit.sheet import Sheet, strips
from reverie.edit.task import Task, solve
from reverie.maths.operators import Mask
from reverie.samplers.ddim import DDIM
from reverie.samplers.guidance.repaint import RePaint, there_and_back


class Settings(Restoring):
    """How it is done.

    Arguments:
        method: ``repaint`` (replacement with resampling), ``moments`` or ``dps``.
        jump: of repaint, how many steps are gone through again.
        resamplings: of repaint, how often; 1 only replaces.
    """

    only: ClassVar[Mapping[str, str]] = {**Restoring.only, "jump": "repaint", "resamplings": "repaint"}

    method: Literal["repaint", "moments", "dps"] = "repaint"  # type: ignore[assignment]
    jump: int = Field(5, ge=1)
    resamplings: int = Field(4, ge=1, le=1000)


def draw(task: Task, settings: Settings) -> Sheet:
    """The picture without what is covered, and with what was drawn there."""
    if task.known is None:
        raise RequestError("inpaint needs --mask FILE (white is drawn anew) or --box x0,y0,x1,y1 in pixels")
    mask = Mask(task.known)
    covered = torch.where(task.known, task.x, torch.zeros_like(task.x))
    results = inpainted(task, mask, settings)
    results = torch.where(task.known, task.x[:, None], results)
    return strips(covered, results) if task.given else strips(covered, results, task.x)


def inpainted(task: Task, mask: Mask, settings: Settings) -> Tensor:
    """Pictures ``[N, count, C, H, W]``."""
    if settings.method != "repaint":
        return restored(task, mask, mask(task.x), settings)
    x = task.repeated
    if x.shape[1:] != task.x.shape[1:]:
        raise RequestError("this model denoises codes, not pictures: a mask of pixels says nothing of them yet")
    solver = RePaint(DDIM(settings.eta), mask, x)
    times = there_and_back(task.times(settings), settings.jump, settings.resamplings)
    model = task.clipped(task.guided(settings.guidance))
    return task.results(solve(model, solver, task.start(), times, task.noise("steps"), task.condition()))
