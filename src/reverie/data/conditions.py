"""What samples of a trained model are drawn for, where it draws from maps or pictures: its data's, or some given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from reverie.core.batch import Asks, Condition
from reverie.core.capabilities import Observes
from reverie.core.errors import RequestError
from reverie.core.noise import KeyedNoise
from reverie.core.sampling import Samples
from reverie.core.space import Space
from reverie.data.config import DataConfig
from reverie.data.dataset import open_data
from reverie.data.given_maps import given_maps
from reverie.data.maps import COMPUTED, beside


def conditions(
    trained_on: Mapping[str, Any],
    space: Space,
    data: str | None = None,
    maps: str | None = None,
    observes: Observes | None = None,
    fit: bool = False,
) -> Asks | None:
    """What a model's samples are drawn for; None where it draws from no maps, nor from pictures.

    Arguments:
        trained_on: the recipe's ``data`` section.
        space: the model's.
        data: a source whose rows' maps are taken, held-out rows first of all; the recipe's where None.
        maps: pictures that are themselves the maps, a folder or any other source.
        observes: the model as one that makes its maps from rows itself, if it does.
        fit: whether ``maps`` of another size or in colour are made to fit, rather than refused.

    Raises:
        RequestError: maps are given to a model that draws from none, both are given, or they do not fit the model.
            Those of ``maps`` are looked at as they are asked for.
    """
    if fit and maps is None:
        raise RequestError("--fit is of --maps: name the pictures that are the maps, or leave it out")
    if not space.drawn_from:
        if data is not None or maps is not None:
            raise RequestError("this model draws from no maps: leave --data and --maps out")
        return None
    if maps is None:
        other = {} if data is None else {"source": data, "condition": "none"}
        return open_data(DataConfig.read({**trained_on, **other}, "data")).asks(space, observes)
    if data is not None:
        raise RequestError("give --data, whose maps are made as in training, or --maps, pictures of maps; not both")
    channels, *sides = space.drawn_from
    if channels not in (1, 3):
        raise RequestError(f"maps of {channels} channels cannot be read from pictures; use --data SOURCE")
    lines = not space.picture and _of_two_values(trained_on, space, observes)
    # What is not drawn in a map of lines is black; pictures lie on what those of the training lay on.
    ground = "black" if lines else DataConfig.read(trained_on, "data").background
    if not fit and not space.picture:
        return given_maps(maps, space.drawn_from, lines, ground)
    settings = {"source": maps, "size": sides[0], "channels": channels, "condition": "none", "held_out": 0.0}
    settings["background"] = ground
    pictures = open_data(DataConfig.read(settings, "data")).train
    return lambda ids: Condition(image=pictures.take(ids.cpu().numpy() % len(pictures))[0])


def _of_two_values(trained_on: Mapping[str, Any], space: Space, observes: Observes | None) -> bool:
    """Whether the model's maps are black and white: so where they are edges, of whatever picture."""
    ramp = torch.linspace(-1, 1, space.size).view(1, *space.shape)
    made = COMPUTED.get(str(trained_on.get("maps")))
    if observes is not None:
        seen = observes.observe(ramp, KeyedNoise(0, torch.zeros(1, dtype=torch.int64), "observe"))
    else:
        seen = ramp if made is None else made(ramp)
    return bool((seen.abs() == 1).all())


def beside_maps(samples: Samples, asks: Asks) -> Samples:
    """Samples with the map of each before it, to be looked at; their labels are repeated likewise."""
    maps = asks(torch.arange(len(samples.x))).image
    assert maps is not None
    labels = None if samples.labels is None else samples.labels.repeat_interleave(2)
    return Samples(beside(maps, samples.x), labels)
