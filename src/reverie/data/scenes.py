r"""Drawn scenes: one large and up to two small coloured shapes on a plain ground, a function of the index alone.

A shape is the set where its signed distance :math:`d(u, v)` in its own turned and scaled coordinates is negative. A
pixel at the middle of which the distance is :math:`d` pixels is covered by :math:`\min(1, \max(0, 1/2 - d))`, and
shapes are laid over one another from the farthest to the nearest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch

from reverie.core.noise import KeyedNoise

VERSION = 1  # of what is drawn: a part of the data's hash
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS = {
    "red": (214, 39, 40),
    "orange": (255, 140, 25),
    "yellow": (250, 220, 40),
    "green": (35, 150, 60),
    "cyan": (60, 205, 215),
    "blue": (35, 75, 205),
    "purple": (135, 50, 175),
    "pink": (250, 130, 185),
}
GROUNDS = {"white": (245, 245, 245), "grey": (150, 150, 150), "black": (20, 20, 20)}
PLACES = ("top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom", "bottom right")
OBJECTS = 3  # at most
TURNED = math.radians(30)  # at most, either way: under half of a star's period, so that the angle can be seen
UPRIGHT = (0, 5)  # shapes that look the same however they are turned
CANDIDATES = 8  # arrangements, of which the first without much overlap is taken
BLOCK = 2**14  # pixels drawn at once: what is computed of them stays in the processor's cache


@dataclass(frozen=True)
class Scenes:
    """What stands in B scenes; object 0 is the large one. Lengths are shares of the picture's side.

    Arguments:
        count: objects in each, 1 to 3, ``[B]``; what stands in the places after them has no meaning.
        shape, colour: places in ``SHAPES`` and ``COLOURS``, ``[B, 3]``.
        place: in ``PLACES``, ``[B, 3]``.
        centre: right and down, ``[B, 3, 2]``.
        radius: ``[B, 3]``.
        angle: clockwise, in radians, ``[B, 3]``; 0 for circles and rings.
        depth: 0 for the farthest, ``[B, 3]``.
        ground: a place in ``GROUNDS``, ``[B]``.
    """

    count: np.ndarray
    shape: np.ndarray
    colour: np.ndarray
    place: np.ndarray
    centre: np.ndarray
    radius: np.ndarray
    angle: np.ndarray
    depth: np.ndarray
    ground: np.ndarray

    @property
    def present(self) -> np.ndarray:
        """Which objects there are, bool ``[B, 3]``."""
        return np.arange(OBJECTS) < self.count[:, None]

    def rows(self, which: slice) -> Scenes:
        """Some of the scenes."""
        return Scenes(**{f.name: getattr(self, f.name)[which] for f in fields(self)})


def compose(index: np.ndarray) -> Scenes:
    """What stands in the scenes of these numbers, any whole numbers, int64 ``[B]``."""
    noise = _noise(index)
    shape, colour = _kinds(noise)
    count = noise.integers(OBJECTS).numpy() + 1
    ground = noise.integers(len(GROUNDS)).numpy()
    u = noise.uniform(2, OBJECTS).numpy().astype(np.float64)
    radius = np.where(np.arange(OBJECTS) == 0, 0.17 + 0.06 * u[:, 0], 0.10 + 0.03 * u[:, 0])
    angle = np.where(np.isin(shape, UPRIGHT), 0.0, TURNED * (2.0 * u[:, 1] - 1.0))
    centre, cell = _arrange(noise, count, radius)
    depth = noise.uniform(OBJECTS).numpy().argsort(1).argsort(1)
    return Scenes(count, shape, colour, cell[..., 1] * 3 + cell[..., 0], centre, radius, angle, depth, ground)


def labels(index: np.ndarray) -> np.ndarray:
    """The classes of the scenes of these numbers, shape and colour of the large object: int64 ``[B]``."""
    shape, colour = _kinds(_noise(index))
    return shape[:, 0] * len(COLOURS) + colour[:, 0]


def _noise(index: np.ndarray) -> KeyedNoise:
    return KeyedNoise(VERSION, torch.from_numpy(np.asarray(index, dtype=np.int64)), "scenes")


def _kinds(noise: KeyedNoise) -> tuple[np.ndarray, np.ndarray]:
    """The first draws: shapes and colours ``[B, 3]``."""
    return noise.integers(len(SHAPES), OBJECTS).numpy(), noise.integers(len(COLOURS), OBJECTS).numpy()


def _arrange(noise: KeyedNoise, count: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres and cells of a 3 x 3 board ``[B, 3, 2]``, such that no object hides more than a part of another."""
    u = noise.uniform(CANDIDATES, OBJECTS, 2).numpy().astype(np.float64)  # [B, candidates, objects, 2]
    cell = noise.integers(3, CANDIDATES, OBJECTS, 2).numpy()
    low = 1.12 * radius[:, None, :, None]  # the picture holds the whole shape
    near = low + u * (0.31 - low)
    centre = np.choose(cell, [near, 0.38 + 0.24 * u, 1.0 - near])
    hidden = np.full(u.shape[:2], -np.inf)  # [B, candidates]: how deep one object reaches into another, of its radius
    for i, j in ((0, 1), (0, 2), (1, 2)):
        apart = np.sqrt(((centre[:, :, i] - centre[:, :, j]) ** 2).sum(-1))
        reach = (radius[:, i] + radius[:, j])[:, None] - apart
        share = reach / np.minimum(radius[:, i], radius[:, j])[:, None]
        hidden = np.maximum(hidden, np.where(count[:, None] > j, share, -np.inf))
    best = np.where((hidden <= 0.5).any(1), (hidden <= 0.5).argmax(1), hidden.argmin(1))
    rows = np.arange(len(best))
    return centre[rows, best], cell[rows, best]


def _circle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.sqrt(u * u + v * v) - np.float32(0.9)


def _ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.abs(np.sqrt(u * u + v * v) - np.float32(0.72)) - np.float32(0.24)


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(u), np.abs(v)) - np.float32(0.78)


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    v = v - np.float32(0.2)
    return np.maximum(v, np.float32(math.sqrt(0.75)) * np.abs(u) - np.float32(0.5) * v) - np.float32(0.56)


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    u, v = np.abs(u), np.abs(v)
    narrow, long = np.float32(0.3), np.float32(0.95)
    return np.minimum(np.maximum(u - narrow, v - long), np.maximum(u - long, v - narrow))


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Folded onto half of one of the five points, where the border is a straight line from the tip to the notch."""
    c, s = (np.float32(f(math.pi / 5)) for f in (math.cos, math.sin))
    u, v = np.abs(u), -v  # now up
    t = np.float32(2) * np.maximum(c * u - s * v, np.float32(0))
    u, v = u - t * c, v + t * s
    t = np.float32(2) * np.maximum(-c * u - s * v, np.float32(0))
    u, v = np.abs(u + t * c), v + t * s
    tip, notch = 1.12, 0.5
    across, along = notch * math.sin(math.pi / 5), tip - notch * math.cos(math.pi / 5)
    length = math.hypot(across, along)
    return np.float32(along / length) * u + np.float32(across / length) * (v - np.float32(tip))


DISTANCES: tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...] = (
    _circle,
    _square,
    _triangle,
    _star,
    _cross,
    _ring,
)


def coverage(scenes: Scenes, size: int) -> np.ndarray:
    """How much of each pixel each object covers, whatever lies before it; 0 for absent ones: ``[B, 3, size, size]``."""
    covered = np.zeros((len(scenes.count), OBJECTS, size, size), np.float32)
    middle = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    for kind, distance in enumerate(DISTANCES):
        row, column = np.nonzero(scenes.present & (scenes.shape == kind))
        if not len(row):
            continue
        (x, y), radius, angle = scenes.centre[row, column].T, scenes.radius[row, column], scenes.angle[row, column]
        right, down = middle - x[:, None].astype(np.float32), middle - y[:, None].astype(np.float32)
        c, s = ((f(angle) / radius).astype(np.float32)[:, None] for f in (np.cos, np.sin))
        u = (right * c)[:, None] + (down * s)[:, :, None]
        v = (down * c)[:, :, None] - (right * s)[:, None]
        scale = (radius * size).astype(np.float32)[:, None, None]
        covered[row, column] = np.clip(np.float32(0.5) - distance(u, v) * scale, 0, 1)
    return covered


def draw(scenes: Scenes, size: int) -> np.ndarray:
    """The pictures, uint8 ``[B, 3, size, size]``."""
    pictures = np.empty((len(scenes.count), 3, size, size), np.uint8)
    step = max(1, BLOCK // size**2)
    for start in range(0, len(pictures), step):
        block = slice(start, start + step)
        pictures[block] = _drawn(scenes.rows(block), size)
    return pictures


def _drawn(scenes: Scenes, size: int) -> np.ndarray:
    """The pictures as floats 0 to 255."""
    grounds, colours = (np.array(list(kinds.values()), np.float32) for kinds in (GROUNDS, COLOURS))
    rows = np.arange(len(scenes.count))
    covered = coverage(scenes, size)
    x = np.empty((len(rows), 3, size, size), np.float32)
    x[:] = grounds[scenes.ground][:, :, None, None]
    change = np.empty_like(x)
    for nearer in scenes.depth.argsort(1).T:
        np.subtract(colours[scenes.colour[rows, nearer]][:, :, None, None], x, out=change)
        change *= covered[rows, nearer][:, None]
        x += change
    return np.rint(x, out=x)


def layout(scenes: Scenes, size: int) -> np.ndarray:
    """Which object each pixel shows, 1 to 3, and 0 for the ground: the nearest that covers half of it.

    Returns:
        uint8 ``[B, size, size]``.
    """
    shown = np.zeros((len(scenes.count), size, size), np.uint8)
    rows, covered = np.arange(len(scenes.count)), coverage(scenes, size)
    for nearer in scenes.depth.argsort(1).T:
        shown = np.where(covered[rows, nearer] >= 0.5, nearer[:, None, None].astype(np.uint8) + 1, shown)
    return shown


def boxes(shown: np.ndarray) -> np.ndarray:
    """The extent of each object of a layout: left, top, right and bottom in pixels, the last two past its end.

    Arguments:
        shown: as ``layout`` gives it, ``[B, size, size]``.

    Returns:
        int64 ``[B, 3, 4]``; zeros for an object that is not shown.
    """
    found = np.zeros((len(shown), OBJECTS, 4), np.int64)
    for k in range(OBJECTS):
        for axis, (first, last) in ((1, (0, 2)), (2, (1, 3))):
            line = (shown == k + 1).any(axis)  # columns, then rows
            found[:, k, first] = line.argmax(1)
            found[:, k, last] = np.where(line.any(1), line.shape[1] - line[:, ::-1].argmax(1), 0)
    return found


def captions(scenes: Scenes) -> list[str]:
    """A sentence a scene: each object's size, colour, shape and place, and the ground."""
    colours, grounds = tuple(COLOURS), tuple(GROUNDS)
    sentences = []
    for i, count in enumerate(scenes.count):
        named = [
            f"a {'small' if k else 'large'} {colours[scenes.colour[i, k]]} {SHAPES[scenes.shape[i, k]]} "
            f"{_at(PLACES[scenes.place[i, k]])}"
            for k in range(count)
        ]
        listed = " and ".join([", ".join(named[:-1]), named[-1]]) if len(named) > 1 else named[0]
        sentences.append(f"{listed}, on {grounds[scenes.ground[i]]}")
    return sentences


def _at(place: str) -> str:
    return f"on the {place}" if place in ("left", "right") else f"{'in' if place == 'middle' else 'at'} the {place}"
