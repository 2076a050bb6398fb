"""Samples from any model: the same noise for a seed, whatever the batch split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reverie.core.batch import Asks, Condition
from reverie.core.device import Precision, autocast
from reverie.core.errors import RequestError
from reverie.core.model import Model, Sampling
from reverie.core.noise import KeyedNoise
from reverie.core.recipe import parse_change, put


class Samples(NamedTuple):
    """Rows ``x`` ``[B, *space.shape]`` on the CPU and their labels ``[B]`` (None without classes)."""

    x: Tensor
    labels: Tensor | None


def sampling_of(model: Model, changes: Iterable[str] | Mapping[str, Any]) -> Sampling:
    """A model's own way of sampling, changed.

    Arguments:
        model: whose.
        changes: ``key=value`` each, as in ``steps=20``, or a mapping.

    Raises:
        RequestError: the model has no such setting, or it cannot have that value.
    """
    settings = model.config.sampling.model_dump()
    for path, value in changes.items() if isinstance(changes, Mapping) else map(parse_change, changes):
        put(settings, path, value)
    how = type(model.config.sampling).read(settings, "sampling")
    _check_guidance(model, how)
    return how


def sample(
    model: Model,
    count: int,
    seed: int = 0,
    *,
    labels: Sequence[int] | Tensor | int | None = None,
    condition: Condition | Asks | None = None,
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
        labels: one label for all, or one for each; ``condition``'s where None, or drawn uniformly where that has none
            and the model has classes.
        condition: what to draw, for a model that cannot make it up: of each of the samples, or a function of their
            places 0 to ``count - 1`` (``Dataset.asks`` gives that of held-out rows).
        how: the model's own ``Sampling``; None for the recipe's.
        batch: rows computed at once; changes memory and speed only.
        precision: of the networks; ``auto`` is bf16 for images where that is faster.
        on_batch: called with the number of samples done so far.

    Raises:
        RequestError: a label is out of range, or the model has none; the model draws from maps, and none are given or
            they do not fit.
    """
    drawn = stream(
        model,
        count,
        seed,
        labels=labels,
        condition=condition,
        how=how,
        batch=batch,
        precision=precision,
        on_batch=on_batch,
    )
    rows, chosen = zip(*drawn, strict=True)
    return Samples(torch.cat(rows), None if chosen[0] is None else torch.cat(chosen))


def stream(
    model: Model,
    count: int,
    seed: int = 0,
    *,
    labels: Sequence[int] | Tensor | int | None = None,
    condition: Condition | Asks | None = None,
    how: Any = None,
    batch: int = 256,
    precision: Precision = "auto",
    on_batch: Callable[[int], None] | None = None,
) -> Iterator[Samples]:
    """The samples of ``sample``, a batch at a time, in bounded memory. Arguments as there."""
    if count < 1:
        raise RequestError(f"cannot draw {count} samples; ask for at least 1")
    _check_guidance(model, how)
    device = next((p.device for p in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    every_label = None if labels is None else _labels(model, count, labels)
    asks = _given(condition, count) if isinstance(condition, Condition) else condition
    was_training = model.training
    model.eval()
    try:
        for start in range(0, count, batch):
            ids = torch.arange(start, min(start + batch, count), device=device)
            asked = _asked(model, asks, ids.cpu(), seed)
            if every_label is not None:
                asked = replace(asked, label=every_label[start : start + batch])
            # no_grad, not inference_mode: a sampler may turn gradients on again (Langevin, guidance).
            with torch.no_grad(), autocast(device, precision, model.space):
                x = model.sample(KeyedNoise(seed, ids, "sample"), asked.to(device), how)
            yield Samples(x.float().cpu() if x.is_floating_point() else x.cpu(), asked.label)
            if on_batch:
                on_batch(start + len(ids))
    finally:
        model.train(was_training)


def _check_guidance(model: Model, how: Any) -> None:
    guidance = getattr(how, "guidance", 1.0)
    if not model.space.classes and guidance != 1.0 and guidance != getattr(model.config.sampling, "guidance", 1.0):
        raise RequestError(f"guidance = {guidance:g} leads towards a label, and this model has none: leave it out")


def _asked(model: Model, asks: Asks | None, ids: Tensor, seed: int) -> Condition:
    """What some samples are drawn for, labels drawn where the model has classes and none are given."""
    space = model.space
    condition = Condition() if asks is None else asks(ids).to("cpu")
    if condition.label is None and space.classes:
        condition = replace(condition, label=KeyedNoise(seed, ids, "label").integers(space.classes))
    if space.classes and condition.label is not None and int(condition.label.max()) >= space.classes:
        raise RequestError(f"a label is out of range; this model's labels are 0 to {space.classes - 1}")
    wanted = space.drawn_from
    if not wanted:
        return condition
    kind = "pictures" if space.picture else "maps"
    if condition.image is None:
        raise RequestError(
            f"this model draws from {kind} of {wanted[0]} channel{'s' * (wanted[0] > 1)}: give it some "
            "(condition=Condition(image=...), or reverie sample --data SOURCE)"
        )
    if condition.image.shape != (len(ids), *wanted):
        given = "x".join(map(str, condition.image.shape[1:]))
        raise RequestError(f"the {kind} given are {given}; this model draws from {'x'.join(map(str, wanted))}")
    return condition


def _given(condition: Condition, count: int) -> Asks:
    """A condition of each sample, as a function of their places."""
    for name, value in vars(condition).items():
        if value is not None and len(value) != count:
            raise RequestError(f"condition.{name} has {len(value)} rows for {count} samples")
    return lambda ids: condition.rows(int(ids[0]), int(ids[-1]) + 1)


def _labels(model: Model, count: int, labels: Sequence[int] | Tensor | int) -> Tensor:
    classes = model.space.classes
    chosen = torch.as_tensor(labels)
    if not classes:
        raise RequestError("this model has no classes: it was trained without labels")
    chosen = chosen.expand(count) if chosen.ndim == 0 else chosen
    if len(chosen) != count:
        raise RequestError(f"{len(chosen)} labels for {count} samples")
    if int(chosen.min()) < 0 or int(chosen.max()) >= classes:
        raise RequestError(f"a label is out of range; this model's labels are 0 to {classes - 1}")
    return chosen.long()
