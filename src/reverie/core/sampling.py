"""Samples from any model: the same noise for a seed, whatever the batch split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor

from reverie.core.batch import Asks, Condition
from reverie.core.device import Precision, autocast
from reverie.core.errors import RequestError, ReverieError
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
    check: bool = False,
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
        check: whether samples that are not finite are an error, before more of them are drawn. Trainings and timings
            take them as they are; ``save_samples`` writes no pictures of them.

    Raises:
        ReverieError: samples are not finite, and ``check``.
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
        check=check,
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
    check: bool = False,
) -> Iterator[Samples]:
    """The samples of ``sample``, a batch at a time, in bounded memory. Arguments as there."""
    _check_request(model, count, seed, how, batch, precision)
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
            x = x.float().cpu() if x.is_floating_point() else x.cpu()
            if check:
                check_finite(x, "samples", start)
            yield Samples(x, asked.label)
            if on_batch:
                on_batch(start + len(ids))
    finally:
        model.train(was_training)


def check_finite(x: Tensor, what: str, first: int = 0) -> None:
    """Refuses rows ``[B, ...]`` that are not finite: as bytes they would be pictures like any other.

    Arguments:
        x: the rows.
        what: they are, for the message.
        first: the number of the first of them.

    Raises:
        ReverieError: some are not.
    """
    bad = int((~torch.isfinite(x).flatten(1).all(1)).sum())
    if bad:
        raise ReverieError(f"{bad} of the {what} {first} to {first + len(x) - 1} are not finite: the model broke")


def _check_request(model: Model, count: Any, seed: Any, how: Any, batch: Any, precision: Any) -> None:
    for name, value in (("count", count), ("seed", seed), ("batch", batch)):
        if isinstance(value, bool) or not isinstance(value, Integral):  # NumPy's are among these
            raise RequestError(f"{name} = {value!r}: write a whole number")
    if count < 1:
        raise RequestError(f"cannot draw {count} samples; ask for at least 1")
    if batch < 1:
        raise RequestError(f"batch = {batch}: at least 1 sample is computed at once")
    if precision not in get_args(Precision):
        raise RequestError(f"no precision {precision!r}; known: {', '.join(get_args(Precision))}")
    if how is not None and not isinstance(how, type(model.config.sampling)):
        raise RequestError(f"how is of type {type(how).__name__}: leave it out, or give reverie.sampling_of(model, …)")
    _check_guidance(model, how)


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
    if not classes:
        raise RequestError("this model has no classes: it was trained without labels")
    given = f"labels = {labels!r}" if isinstance(labels, str | int | float) else "labels"
    wrong = RequestError(f"{given}: write whole numbers, one for all or one for each sample")
    try:
        chosen = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):  # torch's words for what no tensor can be made of
        raise wrong from None
    chosen = chosen.expand(count) if chosen.ndim == 0 else chosen
    if len(chosen) != count:
        raise RequestError(f"{len(chosen)} labels for {count} samples")
    if chosen.ndim != 1 or chosen.dtype == torch.bool or chosen.is_floating_point() or chosen.is_complex():
        raise wrong
    if int(chosen.min()) < 0 or int(chosen.max()) >= classes:
        raise RequestError(f"a label is out of range; this model's labels are 0 to {classes - 1}")
    return chosen.long()
