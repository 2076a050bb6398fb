"""How fast a model samples, and how large it is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from reverie.core.device import Precision
from reverie.core.model import Model
from reverie.core.sampling import sample


@dataclass(frozen=True)
class Speed:
    """A timing on this machine.

    Arguments:
        images_per_second: in batches of ``batch``.
        seconds_alone: for one image by itself.
        batch: rows computed at once.
        parameters: of the whole model.
        sampling_parameters: of what sampling uses.
        device: where, and on how many threads.
    """

    images_per_second: float
    seconds_alone: float
    batch: int
    parameters: int
    sampling_parameters: int
    device: str


def speed(
    model: Model, *, batch: int = 64, how: Any = None, precision: Precision = "auto", seconds: float = 5.0
) -> Speed:
    """Times sampling: once to warm up, then the best of as many times as fit in ``seconds``, at least one."""
    device = next((p.device for p in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    threads = torch.get_num_threads()
    place = device.type if device.type != "cpu" else f"cpu, {threads} thread{'s' if threads > 1 else ''}"

    def best(rows: int) -> float:
        times: list[float] = []
        while not times or sum(times) < seconds:
            begun = time.perf_counter()
            sample(
                model, rows, seed=len(times), how=how, batch=rows, precision=precision
            )  # ends on the CPU: synchronous
            times.append(time.perf_counter() - begun)
        return min(times)

    sample(model, 1, how=how, precision=precision)
    together = best(batch)
    used = {id(p): p.numel() for module in model.averaged() for p in module.parameters()}
    return Speed(
        images_per_second=batch / together,
        seconds_alone=best(1),
        batch=batch,
        parameters=sum(p.numel() for p in model.parameters()),
        sampling_parameters=sum(used.values()),
        device=place,
    )
