"""Tools on latents and on networks: a run, its model and what is asked give a sheet of images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from reverie.core.errors import RequestError
from reverie.core.model import Model
from reverie.core.run import Run
from reverie.data.config import DataConfig
from reverie.data.dataset import open_data
from reverie.edit.arithmetic import arithmetic
from reverie.edit.asked import Asked
from reverie.edit.filters import filters, read_box
from reverie.edit.guided import Critic, portraits
from reverie.edit.interpolate import interpolate
from reverie.edit.labelled import of_group
from reverie.edit.latents import Latents, decoded, drawn, picked, read_picks
from reverie.edit.sheet import Sheet
from reverie.edit.task import Classify
from reverie.training.build import build, load_parts, read_model_header, resolve

LOOKED_THROUGH = 1000
"""Training rows among which a feature's are searched."""


def _picks(run: Run, model: Model, asked: Asked, classify: Classify | None) -> Sheet:
    return Sheet(decoded(model, drawn(model, range(asked.number), asked.seed)), 8)


def _interpolate(run: Run, model: Model, asked: Asked, classify: Classify | None) -> Sheet:
    count = asked.number
    one = _named(run, model, asked.start or _numbers(0, count), asked.seed, classify)
    two = _named(run, model, asked.to or _numbers(count, 2 * count), asked.seed, classify)
    if len(one[0]) != len(two[0]):
        raise RequestError(f"{len(one[0])} beginnings and {len(two[0])} ends: name as many of both")
    return Sheet(interpolate(model, one, two, steps=asked.steps, path=asked.path), asked.steps)


def _arithmetic(run: Run, model: Model, asked: Asked, classify: Classify | None) -> Sheet:
    if not (asked.plus and asked.minus and asked.to):
        raise RequestError(
            "arithmetic needs --plus, --minus and --to: samples by number as `picks` shows them, or label:3"
        )
    a, b, c = (_named(run, model, text, asked.seed, classify) for text in (asked.plus, asked.minus, asked.to))
    return Sheet(arithmetic(model, a, b, c), 4)


def _features(run: Run, model: Model, asked: Asked, classify: Classify | None) -> Sheet:
    """Features of the trained critic, and below them those of one with fresh weights."""
    count = 6 if asked.count is None else asked.count
    trained = Critic(model)
    device = next(model.parameters()).device
    untrained = Critic(_untrained(run, asked.seed).to(device))
    rows = open_data(DataConfig.read(run.recipe.data, "data")).train
    # Evenly spread, since some sources come sorted.
    places = np.unique(np.linspace(0, len(rows) - 1, LOOKED_THROUGH).round().astype(np.int64))
    some, condition = rows.take(places[::4])
    untrained.settle(some.to(device), condition.to(device))
    x, condition = rows.take(places)
    x, condition = x.to(device), condition.to(device)
    return Sheet(torch.cat([portraits(critic, x, condition, count) for critic in (trained, untrained)]).cpu(), count)


def _filters(run: Run, model: Model, asked: Asked, classify: Classify | None) -> Sheet:
    if not asked.box:
        raise RequestError("filters needs --box, x0,y0,x1,y1 in pixels, as in 8,8,20,20")
    box = read_box(asked.box, model.space.shape)
    return Sheet(filters(model, box, asked.share, asked.number, asked.seed), asked.number)


SHEETS: dict[str, Callable[[Run, Model, Asked, Classify | None], Sheet]] = {
    "picks": _picks,
    "interpolate": _interpolate,
    "arithmetic": _arithmetic,
    "features": _features,
    "filters": _filters,
}


def _named(run: Run, model: Model, text: str, seed: int, classify: Classify | None) -> Latents:
    """From text such as ``3,row:5`` or ``label:3`` to latents; the data are opened where they are asked for."""
    picks = read_picks(text)
    if not any(pick.row or pick.group for pick in picks):
        return picked(model, picks, seed, None)
    data = open_data(DataConfig.read(run.recipe.data, "data"))
    return picked(model, picks, seed, data.train, lambda group: of_group(model, group, data, seed, classify))


def _untrained(run: Run, seed: int) -> Model:
    """The run's model before its training."""
    recipe, space, _ = read_model_header(run.model_file)
    resolved, config = resolve(recipe, space)
    return build(resolved, config, space, load_parts(run.parts, recipe), seed).eval().requires_grad_(False)


def _numbers(start: int, stop: int) -> str:
    return ",".join(map(str, range(start, stop)))
