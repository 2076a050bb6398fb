"""When errors are taken in training: a choice of a recipe."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator
from torch import Tensor

from reverie.core.capabilities import Path
from reverie.core.strict import Strict
from reverie.maths.times import even, logit_normal
from reverie.maths.weights import log_normal

EDM_LOCATION, EDM_SCALE = -1.2, 1.2
"""P_mean and P_std of EDM's Table 1."""
EARLIEST = 1e-5
"""The earliest time of training on continuous paths: at t = 0 nothing is left to learn, and weights are infinite."""


class Times(Strict):
    """When errors are taken in training.

    Arguments:
        name: ``uniform``; ``logit-normal``, mostly between data and noise; ``log-normal``, EDM's noise levels.
        location: of the normal variable; above 0 for more noise. Of log-normal, unless given, EDM's -1.2.
        scale: its standard deviation. Of log-normal, unless given, EDM's 1.2.
    """

    name: Literal["uniform", "logit-normal", "log-normal"] = "uniform"
    location: float = 0.0
    scale: float = Field(1.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        given = {"name": given} if isinstance(given, str) else given
        if isinstance(given, dict) and given.get("name") == "log-normal":
            return {"location": EDM_LOCATION, "scale": EDM_SCALE, **given}
        return given

    def at(self, ids: Tensor, path: Path, steps: int | None) -> Tensor:
        """The time of each place in the stream of images, ``[B]``.

        Arguments:
            ids: the places, int64 ``[B]``.
            path: from data to noise.
            steps: T of a path of T steps, whose times are 1 / T … 1; None for continuous ones.
        """
        u = even(ids)
        if self.name == "logit-normal":
            u = logit_normal(u, self.location, self.scale)
        elif self.name == "log-normal":
            u = log_normal(u, path, self.location, self.scale)
        if steps is None:
            return u.clamp_min(EARLIEST)
        return (1 + (u * steps).floor().clamp(max=steps - 1)) / steps
