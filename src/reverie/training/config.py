"""How a model is trained: the ``train`` section of a recipe."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from reverie.core.strict import Strict

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str | float) -> float:
    """Reads a duration: ``90``, ``"90s"``, ``"10m"``, ``"1h30m"``, ``"2d"``; in seconds.

    Raises:
        ValueError: it is not a duration, or not positive.
    """
    if not isinstance(text, (int, float, str)):
        raise ValueError(f"{text!r} is not a duration; write 90s, 10m or 1h30m")
    if isinstance(text, (int, float)) or re.fullmatch(r"\d+(\.\d+)?", text):
        value = float(text)
    else:
        parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise ValueError(f"'{text}' is not a duration; write 90s, 10m or 1h30m")
        value = sum(float(number) * SECONDS[unit] for number, unit in parts)
    if not value > 0:
        raise ValueError("a duration must be positive")
    return value


class AverageConfig(Strict):
    """The average of weights that samples are drawn with.

    Arguments:
        half_life: images after which a weight's share in the average has halved; 0 keeps the latest weights.
    """

    half_life: float = Field(20_000, ge=0)


class TrainConfig(Strict):
    """The ``train`` section of a recipe. Exactly one of ``images``, ``steps`` and ``time`` is the budget.

    Arguments:
        batch: rows a step, over all micro-batches and processes.
        accumulate: micro-batches that a process splits its share of a batch into (batch norm, dropout and
            minibatch statistics see micro-batches).
        images: rows to see in all.
        steps: rounds to play in all.
        time: seconds to spend in rounds, over all resumes, or text such as ``10m``.
        average: the average of weights.
        precision: ``bf16`` autocast, ``fp32``, or ``auto``: bf16 for images where the processor is faster in it.
        channels_last: memory order of images and convolutions; ``auto`` is on.
        compile: ``torch.compile`` for players that allow it; ``auto`` is off.
        seed: of everything random.
        log_every: rounds between lines of the journal.
        grids: sample grids over the whole training, evenly spaced, always of the same noise; 0 for none.
        grid_size: samples on each.
        checkpoint_every: seconds between checkpoints; one is always written at the end.
        keep: how many checkpoints to keep.
        tensorboard: write TensorBoard events too (the ``track`` extra).
    """

    batch: int = Field(128, ge=1)
    accumulate: int = Field(1, ge=1)
    images: int | None = Field(None, ge=1)
    steps: int | None = Field(None, ge=1)
    time: float | None = None
    average: AverageConfig = AverageConfig()
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    channels_last: bool | Literal["auto"] = "auto"
    compile: bool | Literal["auto"] = "auto"
    seed: int = Field(0, ge=0, lt=2**63)
    log_every: int = Field(20, ge=1)
    grids: int = Field(12, ge=0)
    grid_size: int = Field(64, ge=1)
    checkpoint_every: float = Field(60.0, gt=0)
    keep: int = Field(2, ge=1)
    tensorboard: bool = False

    @field_validator("time", mode="before")
    @classmethod
    def _read_time(cls, value: Any) -> Any:
        return None if value is None else seconds(value)

    @model_validator(mode="after")
    def _one_budget(self) -> TrainConfig:
        if sum(v is not None for v in (self.images, self.steps, self.time)) != 1:
            raise ValueError("give one budget: images, steps or time")
        if self.batch % self.accumulate:
            raise ValueError(f"batch {self.batch} does not divide into {self.accumulate} micro-batches")
        return self


WATCHING = ("images", "steps", "time", "log_every", "grids", "grid_size", "checkpoint_every", "keep", "tensorboard")
"""Fields that may differ between a run and its resumption: they change how long and how it is watched, not what."""
