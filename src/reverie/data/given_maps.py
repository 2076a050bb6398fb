"""Pictures that are given as maps: those of another size or kind than a model knows are refused, not bent to fit.

A network takes any numbers for a map. What it then draws is of nothing that it has learnt, and looks like its fault.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from reverie.core.batch import Asks, Condition
from reverie.core.errors import RequestError
from reverie.data.cache import cache_folder
from reverie.data.config import DataConfig
from reverie.data.dataset import as_floats, open_data
from reverie.data.source import Files, Pixels, Points, Source
from reverie.data.sources import find_source
from reverie.data.survey import take_survey

COLOURED = 24
"""Levels of 255 by which the channels of a pixel differ where it has a colour: JPEG shifts grey ones by a few."""

SHADES, MOSTLY = 0.8, 0.5
"""Values that far from 0 are black or white; a map of which that share is neither is no drawing of lines."""


def given_maps(source: str, wanted: tuple[int, ...], two_values: bool, background: str) -> Asks:
    """Maps from the pictures of a source, over again where there are fewer than samples.

    Arguments:
        source: a folder, or whatever ``data.source`` takes.
        wanted: the maps of the model, ``(1 or 3, H, W)``.
        two_values: whether they are black and white.
        background: the colour under transparent pixels.

    Returns:
        ids ``[B]`` to conditions; it raises RequestError where the pictures are coloured and the model's maps are not,
        or are shades of grey and the model's are black and white.

    Raises:
        RequestError: there are no such pictures, or they are of another size.
    """
    channels, height, width = wanted
    found = find_source(source)
    if isinstance(found, Points):
        raise RequestError(f"{source} holds points, and this model draws from maps: give it pictures")
    other = [f"{w}x{h}" for w, h in sorted(sizes(found)) if (w, h) != (width, height)]
    if other:
        raise RequestError(
            f"the maps in {source} are {', '.join(other[:3])}{' …' if len(other) > 3 else ''}; this model draws from "
            f"maps of {width}x{height}: give it such, or add --fit to have their middle square resized"
        )
    settings = {"source": source, "size": height, "channels": 3, "condition": "none", "held_out": 0.0}
    settings["background"] = background
    pictures = open_data(DataConfig.read(settings, "data")).train

    def asked(ids: Tensor) -> Condition:
        x = pictures.pixels(ids.cpu().numpy() % len(pictures))
        return Condition(image=as_floats(x if channels == 3 else grey(x, source, two_values)))

    return asked


def sizes(source: Source) -> set[tuple[int, int]]:
    """Widths and heights of a source's pictures; none where it draws them at any size."""
    if isinstance(source, Files):
        headers = take_survey(source, cache_folder()).readable
        return set(zip(headers["width"].tolist(), headers["height"].tolist(), strict=True))
    return {(source.shape[2], source.shape[1])} if isinstance(source, Pixels) else set()


def grey(x: np.ndarray, source: str, two_values: bool) -> np.ndarray:
    """Maps of one channel, uint8 ``[B, 1, H, W]``, from pictures of three.

    Raises:
        RequestError: they are coloured, or shades of grey where ``two_values`` are known.
    """
    if (np.ptp(x, axis=1) > COLOURED).any():
        raise RequestError(
            f"the maps in {source} are coloured; this model draws from maps of one channel: give it grey ones, "
            "or add --fit to have their brightness taken"
        )
    shades = np.abs(x[:, :1] / 127.5 - 1.0) < SHADES
    if two_values and (shades.mean((1, 2, 3)) > MOSTLY).any():
        raise RequestError(
            f"the maps in {source} are shades of grey; this model draws from edges, white on black: give it such, or "
            f"--data {source}, whose edges are found, or add --fit to have them taken as they are"
        )
    return np.ascontiguousarray(x[:, :1])
