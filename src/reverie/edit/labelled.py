"""The latent of a class or of a tag: the mean of those of rows, or of samples, that have it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reverie.core.capabilities import Encodes
from reverie.core.errors import RequestError, nearest
from reverie.core.model import Model
from reverie.data.dataset import Dataset, Rows
from reverie.data.tags import tags_of
from reverie.edit.latents import Latents, decoded, decoder, drawn
from reverie.edit.task import Classify

MOST = 512  # rows whose latents are taken, or samples that are looked through
FEW, KEPT = 4, 64  # samples of a class: fewer are no mean, and of more the surest are taken
BLOCK = 64


def of_group(model: Model, group: str, dataset: Dataset, seed: int, classify: Classify | None) -> Latents:
    """The mean latent of a class or a tag, ``[1, ...]`` each; of a discrete latent the most common value.

    A model that encodes is given held-out rows that have it (training rows where no others are). Without an encoder
    samples are drawn, and a classifier says of which class each is.

    Arguments:
        model: one that decodes.
        group: ``label:3``, ``label:cat`` or ``tag:smiling``.
        dataset: what it was trained on.
        seed: of the samples.
        classify: makes a classifier of the classes; for models without an encoder.

    Raises:
        RequestError: there is no such class or tag, nothing has it, or a model without an encoder says nothing of it.
    """
    kind, _, name = group.partition(":")
    encodes = model.view(Encodes)
    if encodes is None:
        if kind == "tag":
            raise RequestError("this model has no encoder, and so no latent of a tag: name samples by number")
        return _of_samples(model, _class(dataset, name), dataset, seed, classify)
    for rows in (dataset.held_out, dataset.train):
        places = _places(rows, kind, name, dataset)
        if len(places):
            break
    else:
        known = {tag for tags in _tags(dataset.train) for tag in tags} if kind == "tag" else dataset.classes
        raise RequestError(f"no row of {dataset.config.source} has {kind} '{name}'{nearest(name, known)}")
    place, found = next(model.parameters()).device, []
    with torch.no_grad():
        for start in range(0, len(places), BLOCK):
            x, _ = rows.take(places[start : start + BLOCK])
            found.append(encodes.encode(x.to(place)))
    return tuple(middle(torch.cat(parts)) for parts in zip(*found, strict=True))


def middle(z: Tensor) -> Tensor:
    """The mean of latents ``[N, ...]``, ``[1, ...]``; of discrete ones the most common value of each place."""
    return z.mean(0, keepdim=True) if z.is_floating_point() else z.mode(0, keepdim=True).values


def _places(rows: Rows, kind: str, name: str, dataset: Dataset) -> np.ndarray:
    """The first rows that have the class or tag."""
    if kind == "label":
        label = _class(dataset, name)
        return np.empty(0, np.int64) if rows.labels is None else np.flatnonzero(rows.labels == label)[:MOST]
    return np.flatnonzero([name in tags for tags in _tags(rows)])[:MOST]


def _tags(rows: Rows) -> list[list[str]]:
    return [] if rows.table is None else [tags_of(row) for row in rows.table[:]]


def _class(dataset: Dataset, name: str) -> int:
    """A class by its name or number."""
    if name in dataset.classes:
        return dataset.classes.index(name)
    if name.isdecimal() and int(name) < len(dataset.classes):
        return int(name)
    raise RequestError(f"{dataset.config.source} has no class '{name}'{nearest(name, dataset.classes)}")


def _of_samples(model: Model, label: int, dataset: Dataset, seed: int, classify: Classify | None) -> Latents:
    if any(space.levels for space in decoder(model).latents):
        raise RequestError(
            "this model has no encoder, and draws classes from labels or codes, of which z says nothing: "
            "name samples by number, as `picks` shows them"
        )
    if classify is None or not model.space.is_image:
        raise RequestError("this model has no encoder: name samples by number, as `picks` shows them")
    z = drawn(model, range(MOST), seed)
    x, judge = decoded(model, z), classify()
    with torch.no_grad():
        share = torch.cat([judge(x[i : i + BLOCK]) for i in range(0, MOST, BLOCK)]).softmax(1)[:, label]
    sure = share.sort(descending=True, stable=True)
    kept = sure.indices[sure.values > 0.5][:KEPT]
    if len(kept) < FEW:
        raise RequestError(f"of {MOST} samples {len(kept)} look like '{dataset.classes[label]}': too few for a mean")
    return tuple(middle(part[kept.to(part.device)]) for part in z)
