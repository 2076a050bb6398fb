"""Drawn scenes as data: a training range and a test range of an endless row of pictures, and what is known of them.

Scene i is a function of i: training rows are 0, 1, 2 …, as many as are asked for, and held-out rows -1 to -10,000.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from reverie.core.errors import RequestError
from reverie.data import scenes
from reverie.data.pool import Facts, Map, Pool
from reverie.data.scenes import COLOURS, GROUNDS, OBJECTS, PLACES, SHAPES, Scenes, compose
from reverie.data.source import Drawn
from reverie.data.split import digest, digests_of

TRAIN, HELD_OUT = 50_000, 10_000  # rows
MOST = 10_000_000  # training rows
KIND = "drawn scenes"
SMALLEST = 16  # pixels a side, under which a star is no longer one


def scenes_source(count: str = "") -> Drawn:
    """Scenes of coloured shapes; the label is the shape and colour of the large one.

    Arguments:
        count: training rows; 50,000 where empty.

    Raises:
        RequestError: it is no number.
    """
    rows = int(count) if count.isdecimal() else TRAIN if not count else 0
    if not 0 < rows <= MOST:
        raise RequestError(f"'scenes:{count}': write the number of training scenes, 1 to {MOST:,}, as in scenes:200000")
    return Drawn(KIND, 32, lambda size: _pool(rows, size))


def _pool(count: int, size: int) -> Pool:
    if size < SMALLEST:
        raise RequestError(f"scenes of {size} pixels a side show nothing; use data.size={SMALLEST} or more")
    numbers = np.concatenate([np.arange(count), -1 - np.arange(HELD_OUT)])
    facts = Facts(
        labels=scenes.labels(numbers),
        classes=tuple(f"{colour} {shape}" for shape in SHAPES for colour in COLOURS),
        held_out=numbers < 0,
        table=Table(numbers, size),
    )
    return Pool(
        key=digest(f"scenes/{scenes.VERSION}/{count}/{size}".encode()).hex(),
        kind=KIND,
        shape=(3, size, size),
        digests=digests_of(numbers[:, None]),
        read=lambda index: scenes.draw(compose(numbers[index]), size),
        facts=facts,
        maps={
            "layout": Map(len(SHAPES), lambda index: layout_map(compose(numbers[index]), size)),
            "depth": Map(1, lambda index: depth_map(compose(numbers[index]), size)),
            "pose": Map(2, lambda index: pose_map(compose(numbers[index]), size)),
        },
    )


class Table(Sequence[dict[str, Any]]):
    """What is known of each scene: its caption as ``text``, its ground, and its objects, the large one first.

    Boxes are left, top, right and bottom in pixels of what is seen of the object, the last two past its end.

    Arguments:
        numbers: of the scenes, int64 ``[N]``.
        size: of their pictures.
    """

    def __init__(self, numbers: np.ndarray, size: int) -> None:
        self._numbers, self._size = numbers, size

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: Any) -> Any:
        if not isinstance(place, slice):
            return self._rows(self._numbers[[place]])[0]
        return self._rows(self._numbers[place])

    def _rows(self, numbers: np.ndarray) -> list[dict[str, Any]]:
        found = compose(numbers)
        boxes = scenes.boxes(scenes.layout(found, self._size))
        return [
            {
                "index": int(numbers[i]),
                "text": text,
                "ground": tuple(GROUNDS)[found.ground[i]],
                "objects": [_object(found, boxes, i, k) for k in range(found.count[i])],
            }
            for i, text in enumerate(scenes.captions(found))
        ]


def _object(found: Scenes, boxes: np.ndarray, i: int, k: int) -> dict[str, Any]:
    return {
        "shape": SHAPES[found.shape[i, k]],
        "colour": tuple(COLOURS)[found.colour[i, k]],
        "size": "small" if k else "large",
        "place": PLACES[found.place[i, k]],
        "box": boxes[i, k].tolist(),
        "centre": [round(float(value), 4) for value in found.centre[i, k]],
        "radius": round(float(found.radius[i, k]), 4),
        "angle": round(math.degrees(found.angle[i, k]), 1),
        "nearer": int((found.depth[i, : found.count[i]] < found.depth[i, k]).sum()),
    }


def layout_map(found: Scenes, size: int) -> np.ndarray:
    """A channel a shape, 255 where an object of that shape is seen: ``[B, 6, size, size]``.

    One-hot rather than a palette: a network need not learn first that nearby colours mean unlike shapes, and the
    colours are left for the label or the caption to say.
    """
    kinds = np.concatenate([np.full((len(found.count), 1), len(SHAPES)), found.shape], axis=1)  # the ground has none
    seen = np.take_along_axis(kinds, scenes.layout(found, size).reshape(len(kinds), -1).astype(np.int64), axis=1)
    planes = (seen[:, None] == np.arange(len(SHAPES))[:, None]) * np.uint8(255)
    return planes.reshape(len(kinds), len(SHAPES), size, size)


def depth_map(found: Scenes, size: int) -> np.ndarray:
    """How near each pixel is: 255 for the nearest object, a third less for each behind it, 0 for the ground."""
    depth = np.where(found.present, found.depth, -1)
    nearer = (depth[:, :, None] < depth[:, None]).sum(2)
    values = np.concatenate([np.zeros((len(depth), 1)), 255 - nearer * (255 // OBJECTS)], axis=1).astype(np.uint8)
    seen = scenes.layout(found, size).reshape(len(depth), -1).astype(np.int64)
    return np.take_along_axis(values, seen, axis=1).reshape(-1, 1, size, size)


def pose_map(found: Scenes, size: int) -> np.ndarray:
    """A dot at the middle of each object, and a line from there to its upper end: ``[B, 2, size, size]``.

    Circles and rings have no upper end, and no line.
    """
    middle = (np.arange(size) + 0.5) / size
    right = middle - found.centre[:, :, 0, None, None]  # [B, 3, 1, W]
    down = middle[:, None] - found.centre[:, :, 1, None, None]  # [B, 3, H, 1]
    angle, radius = found.angle[..., None, None], found.radius[..., None, None]
    u, v = right * np.cos(angle) + down * np.sin(angle), down * np.cos(angle) - right * np.sin(angle)
    dots = 0.05 - np.hypot(right, down)
    lines = 0.025 - np.hypot(u, np.maximum(np.maximum(-radius - v, v), 0.0))  # to u = 0, -radius <= v <= 0
    turns = ~np.isin(found.shape, scenes.UPRIGHT)
    planes = [(dots, found.present), (lines, found.present & turns)]
    covered = [np.where(there[..., None, None], inside * size + 0.5, 0.0).max(1) for inside, there in planes]
    return np.rint(np.clip(np.stack(covered, axis=1), 0.0, 1.0) * 255).astype(np.uint8)
