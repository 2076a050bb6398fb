"""Restoring pictures of which y = A x is seen: what upscaling, colourising, deblurring and inpainting share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor

from reverie.core.errors import RequestError
from reverie.edit.sheet import Sheet, strips
from reverie.edit.task import Settings, Task, solve
from reverie.maths.operators import Operator
from reverie.samplers.ddim import DDIM
from reverie.samplers.guidance.dps import DPS
from reverie.samplers.guidance.moments import MomentMatching


class Restoring(Settings):
    """How y is kept to.

    Arguments:
        method: ``moments`` (moment matching) or ``dps`` (diffusion posterior sampling).
        noise: of moments, the standard deviation of the noise in y.
        iterations: of moments, conjugate gradient steps.
        scale: of dps, the length of its steps.
        eta: the share of fresh noise in each step.
    """

    only: ClassVar[Mapping[str, str]] = {"noise": "moments", "iterations": "moments", "scale": "dps"}
    """Options that one method alone looks at."""

    method: Literal["moments", "dps"] = "moments"
    noise: float = Field(0.005, ge=0)
    iterations: int = Field(3, ge=1)
    scale: float = Field(1.0, ge=0)
    eta: float = Field(1.0, ge=0, le=1)

    @model_validator(mode="after")
    def _of_the_method(self) -> Self:
        for key in sorted(self.model_fields_set & self.only.keys()):
            if self.only[key] != self.method:
                raise ValueError(f"{key} is of method={self.only[key]}, and this is {self.method}: leave it out")
        return self


def restored(task: Task, operator: Operator, y: Tensor, settings: Restoring) -> Tensor:
    """Pictures that look like y, ``[N, count, C, H, W]``.

    Arguments:
        task: the request.
        operator: A, on pictures.
        y: ``[N, ...]``.
        settings: how.

    Raises:
        RequestError: the model does not denoise pictures themselves.
    """
    x_1 = task.start()
    if x_1.shape[1:] != task.x.shape[1:]:
        raise RequestError(
            "this model denoises codes, not pictures: what is seen of a picture says nothing of them yet"
        )
    y = y.repeat_interleave(task.count, 0)
    model, noise = task.guided(settings.guidance), task.noise("steps")
    if settings.method == "moments":
        model = task.clipped(MomentMatching(model, operator, y, settings.noise, settings.iterations))
        x = solve(model, DDIM(settings.eta), x_1, task.times(settings), noise, task.condition())
    else:
        solver = DPS(DDIM(settings.eta), operator, y, settings.scale)
        x = solve(task.clipped(model), solver, x_1, task.times(settings), noise, task.condition())
    return task.results(x)


def strip(task: Task, operator: Operator, shown: Tensor, settings: Restoring, y: Tensor | None = None) -> Sheet:
    """What is seen, results, and the picture itself where it is a row of the data.

    Arguments:
        task: the request.
        operator: A.
        shown: what is seen, as pictures ``[N, C, H, W]``.
        settings: how.
        y: what is seen; A of the pictures where None.
    """
    results = restored(task, operator, operator(task.x) if y is None else y, settings)
    return strips(shown, results) if task.given else strips(shown, results, task.x)
