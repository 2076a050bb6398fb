"""Samples from any model: the same noise for a seed, whatever the batch split."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.device import Precision, autocast
from reverie.core.errors import RequestError
from reverie.core.model import Model
from reverie.core.noise import KeyedNoise


class Samples(NamedTuple):
    """Rows ``x`` ``[B, *space.shape]`` on the CPU and their labels ``[B]`` (None without classes)."""

    x: Tensor
    labels: Tensor | None


def sample(
    model: Model,
    count: int,
    seed: int = 0,
    *,
    labels: Sequence[int] | Tensor | int | None = None,
    how: Any = None,
    batch: int = 256,
    precision: Precision = "auto",
    on_batch: Callable[[int], None] | None = None,
) -> Samples:
    """Draws samples. Sample i depends on (seed, i) and its label only.

    Arguments:
        model: a model, as ``reverie.load`` returns it.
        count: how many.
        seed: any integer.
        labels: one label for all, or one for each; drawn uniformly where None and the model has classes.
        how: the model's own ``Sampling``; None for the recipe's.
        batch: rows computed at once; changes memory and speed only.
        precision: of the networks; ``auto`` is bf16 where that is faster.
        on_batch: called with the number of samples done so far.

    Raises:
        RequestError: a label is out of range, or the model has none.
    """
    drawn = stream(model, count, seed, labels=labels, how=how, batch=batch, precision=precision, on_batch=on_batch)
    rows, chosen = zip(*drawn, strict=True)
    return Samples(torch.cat(rows), None if chosen[0] is None else torch.cat(chosen))


def stream(
    model: Model,
    count: int,
    seed: int = 0,
    *,
    labels: Sequence[int] | Tensor | int | None = None,
    how: Any = None,
    batch: int = 256,
    precision: Precision = "auto",
    on_batch: Callable[[int], None] | None = None,
) -> Iterator[Samples]:
    """The samples of ``sample``, a batch at a time, in bounded memory. Arguments as there."""
    if count < 1:
        raise RequestError(f"cannot draw {count} samples; ask for at least 1")
    device = next((p.device for p in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    every_label = _labels(model, count, seed, labels)
    was_training = model.training
    model.eval()
    try:
        for start in range(0, count, batch):
            ids = torch.arange(start, min(start + batch, count), device=device)
            chosen = None if every_label is None else every_label[start : start + batch]
            condition = Condition(label=None if chosen is None else chosen.to(device))
            # no_grad, not inference_mode: a sampler may turn gradients on again (Langevin, guidance).
            with torch.no_grad(), autocast(device, precision):
                x = model.sample(KeyedNoise(seed, ids, "sample"), condition, how)
            yield Samples(x.float().cpu() if x.is_floating_point() else x.cpu(), chosen)
            if on_batch:
                on_batch(start + len(ids))
    finally:
        model.train(was_training)


def _labels(model: Model, count: int, seed: int, labels: Sequence[int] | Tensor | int | None) -> Tensor | None:
    classes = model.space.classes
    if labels is None:
        return KeyedNoise(seed, torch.arange(count), "label").integers(classes) if classes else None
    chosen = torch.as_tensor(labels)
    if not classes:
        raise RequestError("this model has no classes: it was trained without labels")
    chosen = chosen.expand(count) if chosen.ndim == 0 else chosen
    if len(chosen) != count:
        raise RequestError(f"{len(chosen)} labels for {count} samples")
    if int(chosen.min()) < 0 or int(chosen.max()) >= classes:
        raise RequestError(f"a label is out of range; this model's labels are 0 to {classes - 1}")
    return chosen.long()
