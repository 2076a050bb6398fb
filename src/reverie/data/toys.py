r"""Distributions of points in the plane whose density is known, all within about [-1, 1].

- ``ring``: 8 Gaussians at radius 1, sigma 0.01; ``grid``: 25 Gaussians, sigma 0.0125: the two of PacGAN, the grid
  scaled by 1/4.
- ``moons``, ``spirals``, ``swiss-roll``: curves :math:`c(u)`, u uniform, under Gaussian noise:
  :math:`p(x) = \int_0^1 N(x; c(u), \sigma^2 I) \, du`, integrated by Gauss-Legendre to rounding error.
- ``checkerboard``: uniform on 8 of 16 squares.

References:
    | PacGAN: The power of two samples in generative adversarial networks (Lin et al., 2018), Section 4.1
    | https://arxiv.org/abs/1712.04086
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reverie.core.errors import RequestError, nearest
from reverie.data.pool import Facts, Pool
from reverie.data.source import Points
from reverie.data.split import digest, digests_of

TRAIN, HELD_OUT = 50_000, 10_000  # rows
NODES = 512  # of the quadrature, over each curve
ROWS = 256  # points at a time: their distances to all nodes stay in the processor's cache
VERSION = 1  # of the constants below: a part of the data's hash


@dataclass(frozen=True)
class Mixture:
    """Equally likely Gaussians: ``centres`` ``[K, 2]``, one ``sigma``."""

    centres: np.ndarray
    sigma: float


@dataclass(frozen=True)
class Curves:
    """Equally likely curves ``u -> [K, 2]`` of u uniform on [0, 1], under noise of one ``sigma``."""

    arms: tuple[Callable[[np.ndarray], np.ndarray], ...]
    sigma: float


@dataclass(frozen=True)
class Board:
    """Uniform on the cells of a ``cells`` × ``cells`` board over [-1, 1]² whose column and row add up to even."""

    cells: int


def _polar(radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)


def _upper_moon(u: np.ndarray) -> np.ndarray:
    return 0.6 * (_polar(np.ones_like(u), math.pi * u) + np.array([-0.5, -0.25]))


def _lower_moon(u: np.ndarray) -> np.ndarray:
    return -_upper_moon(u)


def _spiral(u: np.ndarray) -> np.ndarray:
    root = np.sqrt(u)  # evenly dense along the arm, as arc length grows with the angle
    return _polar(0.95 * root, 3.0 * math.pi * root)


def _other_spiral(u: np.ndarray) -> np.ndarray:
    return -_spiral(u)


def _swiss_roll(u: np.ndarray) -> np.ndarray:
    angle = 1.5 * math.pi * (1.0 + 2.0 * u)
    return _polar(angle / (4.5 * math.pi), angle)


_EIGHTHS = 2.0 * math.pi * np.arange(8) / 8
_FIFTHS = np.linspace(-1.0, 1.0, 5)

TOYS: dict[str, Mixture | Curves | Board] = {
    "ring": Mixture(_polar(np.ones(8), _EIGHTHS), 0.01),
    "grid": Mixture(np.stack(np.meshgrid(_FIFTHS, _FIFTHS, indexing="ij"), axis=-1).reshape(25, 2), 0.0125),
    "moons": Curves((_upper_moon, _lower_moon), 0.05),
    "spirals": Curves((_spiral, _other_spiral), 0.02),
    "checkerboard": Board(4),
    "swiss-roll": Curves((_swiss_roll,), 0.03),
}


def find_toy(name: str) -> Mixture | Curves | Board:
    """The toy of that name.

    Raises:
        RequestError: there is none.
    """
    if name not in TOYS:
        raise RequestError(f"no toy '{name}'{nearest(name, TOYS)}")
    return TOYS[name]


def sample(name: str, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draws points.

    Returns:
        float32 ``[count, 2]``, and which Gaussian, curve or cell each came from, int64 ``[count]``.
    """
    toy = find_toy(name)
    generator = np.random.Generator(np.random.Philox(key=seed))
    if isinstance(toy, Board):
        cells = np.array([(i, j) for i in range(toy.cells) for j in range(toy.cells) if (i + j) % 2 == 0])
        mode = generator.integers(len(cells), size=count)
        # 20 bits a coordinate: float32 then holds every point exactly, and none is rounded onto the next cell.
        offset = generator.integers(2**20, size=(count, 2)) / 2**20
        x = (cells[mode] + offset) * (2.0 / toy.cells) - 1.0
        return x.astype(np.float32), mode
    if isinstance(toy, Mixture):
        mode = generator.integers(len(toy.centres), size=count)
        centres = toy.centres[mode]
    else:
        mode = generator.integers(len(toy.arms), size=count)
        u = generator.random(count)
        centres = np.choose(mode[:, None], [arm(u) for arm in toy.arms])
    return (centres + toy.sigma * generator.standard_normal((count, 2))).astype(np.float32), mode


def log_density(name: str, x: Tensor) -> Tensor:
    """The exact log density.

    Arguments:
        name: of the toy.
        x: points ``[B, 2]``.

    Returns:
        nats, ``[B]``, float64; minus infinity outside the checkerboard's cells.
    """
    toy = find_toy(name)
    x = x.double()
    if isinstance(toy, Board):
        cell = ((x + 1.0) * (toy.cells / 2)).floor()
        inside = ((cell >= 0) & (cell < toy.cells)).all(dim=1) & (cell.sum(dim=1) % 2 == 0)
        # Half of the square's area of 4 is covered.
        return torch.full_like(x[:, 0], -math.log(2.0)).masked_fill(~inside, -math.inf)
    centres, log_weights = _components(toy)
    rows = [_log_mixture(part, centres, log_weights, toy.sigma) for part in x.split(ROWS)]
    return torch.cat(rows) if rows else x.new_zeros(0)


def _components(toy: Mixture | Curves) -> tuple[Tensor, Tensor]:
    """Centres ``[K, 2]`` and log weights ``[K]``; a curve's are the nodes and weights of the quadrature."""
    if isinstance(toy, Mixture):
        centres = torch.from_numpy(toy.centres)
        return centres, torch.full((len(centres),), -math.log(len(centres)), dtype=torch.float64)
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    points = np.concatenate([arm((nodes + 1.0) / 2.0) for arm in toy.arms])
    shares = np.tile(weights / 2.0, len(toy.arms)) / len(toy.arms)
    return torch.from_numpy(points), torch.from_numpy(np.log(shares))


def _log_mixture(x: Tensor, centres: Tensor, log_weights: Tensor, sigma: float) -> Tensor:
    square = (x[:, :1] - centres[:, 0]).square() + (x[:, 1:] - centres[:, 1]).square()  # [B, K]
    return torch.logsumexp(log_weights - square / (2.0 * sigma**2), dim=1) - math.log(2.0 * math.pi * sigma**2)


def toy_source(name: str) -> Points:
    """A toy as data: 50,000 rows to train on and 10,000 held out, always the same."""
    toy = find_toy(name)
    x, mode = sample(name, TRAIN + HELD_OUT)
    x.flags.writeable = False
    held_out = np.arange(len(x)) >= TRAIN
    names = tuple(str(k) for k in range(8 if isinstance(toy, Board) else int(mode.max()) + 1))
    facts = Facts(labels=mode, classes=names, modes=True, held_out=held_out)
    key = digest(f"toy/{name}/{VERSION}".encode()).hex()
    return Points(Pool(key, "toy", (2,), digests_of(x), lambda index: x[index], facts))
