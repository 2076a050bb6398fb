"""Guidance side by side: above, the model's own samples; below, from the same noise, guided ones."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises
from reverie.core.errors import RequestError
from reverie.edit import task as tasks
from reverie.edit.sheet import Sheet
from reverie.edit.task import Task, denoiser, solve
from reverie.samplers.ddim import DDIM
from reverie.samplers.guidance.autoguidance import Autoguidance
from reverie.samplers.guidance.classifier import Classifier
from reverie.samplers.guidance.classifier_free import ClassifierFree
from reverie.samplers.guidance.interval import Interval
from reverie.samplers.solver import SolverChoice


class Settings(tasks.Settings):
    """How it is done.

    Arguments:
        method: ``classifier-free``; ``classifier``, of the run's classes, which sees no label otherwise; or
            ``autoguidance``, away from the worse run --other.
        guidance: how strong.
        low: guidance ends at this time (0 is data) …
        high: … and begins at this one (1 is noise).
        solver: how to step.
    """

    method: Literal["classifier-free", "classifier", "autoguidance"] = "classifier-free"
    guidance: float = Field(3.0, ge=0)
    low: float = Field(0.0, ge=0, le=1)
    high: float = Field(1.0, ge=0, le=1)
    solver: SolverChoice = DDIM()


def draw(task: Task, settings: Settings) -> Sheet:
    """Samples of the class asked for, or of each class in turn."""
    if task.worse is not None and settings.method != "autoguidance":
        raise RequestError(f"method={settings.method} does not use --other: leave it out, or write method=autoguidance")
    labels = _labels(task)
    plain, guided, condition = _denoisers(task, settings, labels)
    guided = Interval(plain, guided, settings.low, settings.high)
    x_1, times = task.start(), task.times(settings)
    drawn = [
        solve(task.clipped(model), settings.solver, x_1, times, task.noise("steps"), condition)
        for model in (plain, guided)
    ]
    return Sheet(torch.cat([task.denoises.leave(z) for z in drawn]).cpu().clamp(-1, 1), task.rows)


def _labels(task: Task) -> Tensor:
    classes = task.model.space.classes
    label = torch.arange(task.rows, device=task.x.device)
    return label % classes if task.label is None and classes else torch.full_like(label, task.label or 0)


def _denoisers(task: Task, settings: Settings, labels: Tensor) -> tuple[Denoises, Denoises, Condition]:
    """The plain one, the guided one, and the condition that both are given."""
    model, classes = task.denoises, task.model.space.classes
    if settings.method == "autoguidance":
        if task.worse is None:
            raise RequestError("autoguidance needs --other RUN, a less trained or smaller run on the same data")
        if task.worse.space.maps and not task.worse.maps_optional:
            raise RequestError(
                "the run --other draws from maps, which samples here have not: take one that does without"
            )
        condition = Condition(label=labels) if classes else Condition()
        return model, Autoguidance(model, denoiser(task.worse), settings.guidance), condition
    if settings.method == "classifier":
        if task.classify is None:
            raise RequestError("classifier guidance needs a run on data with classes")
        logits = task.classify()

        def log_probability(x: Tensor, t: Tensor) -> Tensor:
            return torch.log_softmax(logits(x), 1).gather(1, labels[:, None])[:, 0]

        return model, Classifier(model, log_probability, settings.guidance, clean=True), task.condition()
    if not classes:
        raise RequestError("classifier-free guidance needs a model with classes; try method=autoguidance --other RUN")
    return model, ClassifierFree(model, settings.guidance), Condition(label=labels)
