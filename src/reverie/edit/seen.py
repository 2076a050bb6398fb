"""What a model that draws from maps is shown of the pictures that a tool changes: the map of each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reverie.core.capabilities import Observes
from reverie.core.errors import RequestError
from reverie.core.model import Model
from reverie.core.noise import KeyedNoise
from reverie.core.run import Run
from reverie.edit.reading import read_maps

SHOWN = ("invert", "sdedit", "vary")
"""Tools whose results go with one whole picture, and so with its map: others would show what is to be found."""


def seen(run: Run, model: Model, tool: str, x: Tensor, rows: Sequence[int] | None, seed: int) -> Tensor | None:
    """The maps of pictures, ``[N, maps, H, W]``; None for models that do without.

    Arguments:
        run: where rows come from.
        model: the run's.
        tool: that changes the pictures.
        x: the pictures ``[N, C, H, W]``.
        rows: which rows of the run's data they are; None for pictures from files.
        seed: of the noise in a map that is made by chance.

    Raises:
        RequestError: the tool has no map to show, or the pictures come with none.
    """
    if not model.space.maps or model.maps_optional:
        return None
    if tool not in SHOWN:
        raise RequestError(
            f"this model draws from maps, and {tool} has none to show: take {', '.join(SHOWN[:-1])} or {SHOWN[-1]}"
        )
    observes = model.view(Observes)
    if observes is not None:
        return observes.observe(x, KeyedNoise(seed, torch.arange(len(x), device=x.device), "observe"))
    if rows is None:
        raise RequestError("this model draws from maps, which files come without: name --rows of its data")
    return read_maps(run, rows)
