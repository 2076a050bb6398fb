"""How fast a model samples, how large it is, and what a sample takes in operations and memory."""

from __future__ import annotations

import time
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from reverie.core.batch import Asks, Condition
from reverie.core.device import Precision
from reverie.core.model import Model
from reverie.core.sampling import sample
from reverie.training.flops import Operations

FEW = 4  # samples over which operations are counted
LEAST = 3  # timings


@dataclass(frozen=True)
class Speed:
    """A timing on this machine.

    Arguments:
        together: seconds for a batch of ``batch``, each time it was timed.
        alone: seconds for one image by itself, likewise.
        batch: rows computed at once.
        parameters: of the whole model.
        sampling_parameters: of what sampling uses.
        device: where, and on how many threads.
    """

    together: list[float]
    alone: list[float]
    batch: int
    parameters: int
    sampling_parameters: int
    device: str


def speed(
    model: Model,
    *,
    asks: Asks | None = None,
    batch: int = 64,
    how: Any = None,
    precision: Precision = "auto",
    seconds: float = 5.0,
) -> Speed:
    """Times sampling: once to warm up, then as often as fits in ``seconds``, at least three times.

    Arguments:
        model: on its device.
        asks: what samples are drawn for, where the model draws from maps (``Dataset.asks``).
        batch: rows computed at once.
        how: the model's own ``Sampling``.
        precision: of the networks.
        seconds: for a batch, and as many for one image by itself.
    """
    given = None if asks is None else asks(torch.arange(batch))  # once: reading it is not the model's time
    device = _device(model)
    threads = torch.get_num_threads()
    place = device.type if device.type != "cpu" else f"cpu, {threads} thread{'s' if threads > 1 else ''}"

    def timed(rows: int) -> list[float]:
        times: list[float] = []
        while len(times) < LEAST or sum(times) < seconds:
            begun = time.perf_counter()
            # It ends on the CPU, and so waits for the device.
            condition = None if given is None else given.rows(0, rows)
            sample(model, rows, seed=len(times), condition=condition, how=how, batch=rows, precision=precision)
            times.append(time.perf_counter() - begun)
        return times

    sample(model, 1, condition=asks, how=how, precision=precision)
    used = {id(p): p.numel() for module in model.averaged() for p in module.parameters()}
    return Speed(
        together=timed(batch),
        alone=timed(1),
        batch=batch,
        parameters=sum(p.numel() for p in model.parameters()),
        sampling_parameters=sum(used.values()),
        device=place,
    )


@dataclass(frozen=True)
class Work:
    """What drawing takes, whatever the machine.

    Arguments:
        evaluations: rows that the most used of the sampling networks computes, for each sample: 1 for one pass, twice
            the number of steps for a solver of order two, twice as many again under guidance.
        flops: of matrix products, convolutions and attention, a sample; two for a multiplication and an addition.
        bytes: the most that tensors held at once while ``batch`` samples were drawn, parameters included.
        batch: rows computed at once for ``bytes``.
    """

    evaluations: float
    flops: float
    bytes: int
    batch: int


def work(model: Model, *, asks: Asks | None = None, batch: int = 64, how: Any = None) -> Work:
    """Counts what drawing takes, in float32. Arguments as of ``speed``."""
    rows: dict[int, int] = {}
    given = None if asks is None else asks(torch.arange(max(batch, FEW)))

    def first(count: int) -> Condition | None:
        return None if given is None else given.rows(0, count)

    def seen(module: nn.Module, given: tuple[Any, ...]) -> None:
        first = next((x for x in tree_leaves(given) if isinstance(x, Tensor) and x.ndim > 1), None)
        rows[id(module)] = rows.get(id(module), 0) + (0 if first is None else len(first))

    hooks = [module.register_forward_pre_hook(seen) for module in model.averaged()]
    try:
        with Operations() as counter:
            sample(model, FEW, condition=first(FEW), how=how, batch=FEW, precision="fp32")
    finally:
        for hook in hooks:
            hook.remove()
    held = Held()
    with held:
        sample(model, batch, condition=first(batch), how=how, batch=batch, precision="fp32")
    weights = sum(x.numel() * x.element_size() for x in (*model.parameters(), *model.buffers()))
    evaluations = max(rows.values(), default=0) / FEW
    return Work(evaluations, counter.total / FEW, weights + held.most, batch)


class Held(TorchDispatchMode):
    """Creates a watch over tensors that are made while it is on; ``most`` is the most bytes that they held at once."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for x in _tensors((args, kwargs)):
            self._known.add(x.untyped_storage()._cdata)  # made before: not ours, nor are views of it
        out = func(*args, **(kwargs or {}))
        for x in _tensors(out):
            storage = x.untyped_storage()
            if storage._cdata not in self._known:
                self._known.add(storage._cdata)
                self._now += storage.nbytes()
                weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        self.most = max(self.most, self._now)
        return out

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size


def _tensors(tree: Any) -> list[Tensor]:
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor)]


def _device(model: Model) -> torch.device:
    return next((p.device for p in (*model.parameters(), *model.buffers())), torch.device("cpu"))
