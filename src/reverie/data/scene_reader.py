"""Reads a drawn scene back from its pixels, by rules: which shape and colour its large object has.

Each pixel is given to the nearest of the grounds and colours; the largest patch of one colour is the object. Every
shape is then drawn at every angle with the middle and the area of that patch, and the drawing that covers the patch
best tells the shape. Nothing is learned, and so nothing that a network was trained on is asked again.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from reverie.data.scenes import COLOURS, GROUNDS, OBJECTS, SHAPES, TURNED, UPRIGHT, Scenes, coverage

AREAS = (
    math.pi * 0.9**2,
    1.56**2,
    3.0 * math.sqrt(3.0) * 0.56**2,
    5.0 * 1.12 * 0.5 * math.sin(math.pi / 5.0),
    4.0 * 0.3 * 1.9 - 0.6**2,
    math.pi * (0.96**2 - 0.48**2),
)
"""Of each shape of radius 1."""

LOWER = (0.0, 0.0, 0.2, 0.0, 0.0, 0.0)  # how far below its centre a shape's middle lies, of its radius
ANGLES = np.linspace(-TURNED, TURNED, 9)
READABLE = 32  # pixels a side: 98 of 100 scenes are read right; of 16 pixels a side, 3 of 4
LEAST = 0.02  # of the picture: a patch under which there is nothing to be read
GOOD = 0.7  # of patch and drawing, what both cover: under it the patch is no shape


def read_labels(pixels: np.ndarray) -> np.ndarray:
    """The classes that scenes show.

    Arguments:
        pixels: pictures, uint8 ``[B, 3, H, H]``.

    Returns:
        Labels as the ``scenes`` source has them, int64 ``[B]``; -1 where no shape can be made out.
    """
    return np.array([_read(picture) for picture in pixels], dtype=np.int64)


def _read(picture: np.ndarray) -> int:
    kinds = _nearest(picture)
    patches = [_patch(kinds == k) for k in range(len(COLOURS))]
    colour = int(np.argmax([patch.sum() for patch in patches]))
    patch = patches[colour]
    if patch.mean() < LEAST:
        return -1
    # What lies in front has another colour: what it hides may belong to the shape or not.
    seen = patch | (kinds >= len(COLOURS))
    drawn, shapes = _drawings(patch)
    both = (drawn[:, seen] & patch[seen]).sum(1)
    either = (drawn[:, seen] | patch[seen]).sum(1)
    share = both / np.maximum(either, 1)
    best = int(share.argmax())
    return -1 if share[best] < GOOD else int(shapes[best]) * len(COLOURS) + colour


def _nearest(picture: np.ndarray) -> np.ndarray:
    """The colour, or behind the colours the ground, that each pixel is nearest to, ``[H, H]``."""
    known = np.array([*COLOURS.values(), *GROUNDS.values()], np.float32)
    return ((picture[None].astype(np.float32) - known[:, :, None, None]) ** 2).sum(1).argmin(0)


def _patch(where: np.ndarray) -> np.ndarray:
    """The largest connected part, bool ``[H, H]``."""
    parts, count = ndimage.label(where)
    if not count:
        return where
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts == sizes.argmax()


def _drawings(patch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every shape at every angle, as large as a patch and in its place: bool ``[K, H, H]`` and the shapes ``[K]``."""
    size = len(patch)
    down, right = ((place.mean() + 0.5) / size for place in np.nonzero(patch))
    pairs = [(k, a) for k in range(len(SHAPES)) for a in ((0.0,) if k in UPRIGHT else ANGLES)]
    shape, angle = np.array([k for k, _ in pairs]), np.array([a for _, a in pairs])
    radius = np.sqrt(patch.mean() / np.array(AREAS)[shape])
    lower = np.array(LOWER)[shape] * radius
    centre = np.stack([right + lower * np.sin(angle), down - lower * np.cos(angle)], axis=1)
    return coverage(_alone(shape, centre, radius, angle), size)[:, 0] >= 0.5, shape


def _alone(shape: np.ndarray, centre: np.ndarray, radius: np.ndarray, angle: np.ndarray) -> Scenes:
    """Scenes of one object each."""
    each = np.ones((len(shape), OBJECTS))
    nothing = np.zeros((len(shape), OBJECTS), np.int64)
    return Scenes(
        count=np.ones(len(shape), np.int64),
        shape=nothing + shape[:, None],
        colour=nothing,
        place=nothing,
        centre=each[:, :, None] * centre[:, None],
        radius=each * radius[:, None],
        angle=each * angle[:, None],
        depth=nothing + np.arange(OBJECTS),
        ground=nothing[:, 0],
    )
