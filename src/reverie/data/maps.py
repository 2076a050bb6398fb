"""Maps that rows are conditioned on: second pictures, which the source has or which are computed from the pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from reverie.core.errors import RequestError, nearest
from reverie.data.pool import Map, Pool
from reverie.maths.edges import edges

COMPUTED: Mapping[str, Callable[[Tensor], Tensor]] = {"edges": edges}
"""Maps ``[B, 1, H, W]`` in [-1, 1] of images ``[B, C, H, W]``, computed after every crop and flip."""

PALETTE = ((214, 39, 40), (35, 75, 205), (35, 150, 60), (250, 220, 40), (135, 50, 175), (60, 205, 215), (255, 140, 25))


def map_channels(name: str, pool: Pool, source: str) -> int:
    """How many channels the maps of that name have; 0 for ``none``.

    Raises:
        RequestError: the source has no such maps.
    """
    if name == "none":
        return 0
    known = {**dict.fromkeys(COMPUTED, 1), **{key: made.channels for key, made in pool.maps.items()}}
    if len(pool.shape) != 3:
        raise RequestError(f"{source} holds points, which have no maps; use data.maps=none")
    if name not in known:
        raise RequestError(f"{source} has no maps '{name}'{nearest(name, known)}")
    return known[name]


def line_map(pool: Pool, domain: str) -> Map:
    """The drawings of one domain as maps of every domain's rows: 255 on a dark line, 0 on white."""
    facts = pool.facts
    assert facts.domains is not None
    order = np.empty(len(pool), np.int64)
    for k in range(len(facts.domain_names)):
        of = np.flatnonzero(facts.domains == k)
        order[of] = np.arange(len(of))
    drawings = np.flatnonzero(facts.domains == facts.domain_names.index(domain))

    def read(index: np.ndarray) -> np.ndarray:
        rows = pool.read(drawings[order[index]])
        return 255 - rows.max(axis=1, keepdims=True)

    return Map(1, read)


def as_picture(maps: Tensor) -> Tensor:
    """Maps as pictures that can be looked at.

    Arguments:
        maps: ``[B, C, H, W]`` in [-1, 1].

    Returns:
        Grey where C is 1, as they are where C is 3, else each pixel in the colour of its largest channel, as light as
        that is: ``[B, 1 or 3, H, W]`` in [-1, 1].
    """
    channels = maps.shape[1]
    if channels in (1, 3):
        return maps
    colours = torch.tensor([PALETTE[k % len(PALETTE)] for k in range(channels)], device=maps.device) / 255.0  # [C, 3]
    most, which = ((maps + 1.0) / 2.0).max(1)  # [B, H, W]
    return (colours[which].movedim(-1, 1) * most[:, None]) * 2.0 - 1.0


def beside(maps: Tensor, x: Tensor) -> Tensor:
    """Each map as a picture, followed by its image: ``[2 B, 1 or 3, H, W]``.

    Arguments:
        maps: ``[B, C, H, W]``.
        x: images ``[B, 1 or 3, H, W]``.
    """
    shown = as_picture(maps)
    channels = max(shown.shape[1], x.shape[1])
    return torch.stack([part.expand(-1, channels, -1, -1) for part in (shown, x)], dim=1).flatten(0, 1)
