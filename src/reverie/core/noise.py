r"""Keyed noise: draw k of row i is a function of (seed, stream, i, k) and of nothing else.

So the same seed gives the same noise for any batch split, on any device and after a resume, without
any generator state to store. Each row has a 64-bit key; value j of a draw is

.. math:: u_j = \mathrm{mix}(\mathrm{key}_{i,k} + j \gamma)

the SplitMix64 generator, evaluated at all counters at once; normals follow by Box-Muller.

References:
    | Fast Splittable Pseudorandom Number Generators (Steele, Lea and Flood, 2014)
    | https://doi.org/10.1145/2660193.2660195
"""

from __future__ import annotations

import hashlib
import math
from typing import Protocol

import torch
from torch import Tensor


def _signed(value: int) -> int:
    """The two's complement reading of an unsigned 64-bit integer (torch has signed ones)."""
    return value - (1 << 64) if value >= 1 << 63 else value


GAMMA = _signed(0x9E3779B97F4A7C15)
MIX_1 = _signed(0xBF58476D1CE4E5B9)
MIX_2 = _signed(0x94D049BB133111EB)


class Noise(Protocol):
    """A source of noise with one row for each id in ``ids``."""

    ids: Tensor

    def fork(self, stream: str) -> Noise:
        """An independent source for the same rows."""

    def split(self, *sizes: int) -> list[Noise]:
        """The same source in consecutive groups of rows."""

    def normal(self, *shape: int) -> Tensor:
        """Standard normals, float32 ``[B, *shape]``."""

    def uniform(self, *shape: int) -> Tensor:
        """Uniform on [0, 1), float32 ``[B, *shape]``."""

    def integers(self, high: int, *shape: int) -> Tensor:
        """Integers uniform on 0..high-1, int64 ``[B, *shape]``."""


def mix(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64, a bijection of 64-bit integers (Figure 14)."""
    # torch shifts arithmetically: the mask clears the copies of the sign bit.
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * MIX_1
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * MIX_2
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def stream_key(seed: int, stream: str) -> int:
    """A 64-bit key from a seed and a name, the same in every process."""
    digest = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=8).digest()
    return _signed(int.from_bytes(digest, "little"))


class KeyedNoise:
    """Creates the noise of the rows ``ids`` of one stream.

    Arguments:
        seed: the run's or the request's seed.
        ids: what identifies each row, int64 ``[B]``; also fixes the device.
        stream: a name; different names give independent noise.
    """

    def __init__(self, seed: int, ids: Tensor, stream: str = "") -> None:
        self.ids = ids
        self._seed = seed
        self._stream = stream
        self._draws = 0
        self._rows = mix(ids * GAMMA + stream_key(seed, stream))

    def fork(self, stream: str) -> KeyedNoise:
        return KeyedNoise(self._seed, self.ids, f"{self._stream}/{stream}")

    def split(self, *sizes: int) -> list[Noise]:
        groups: list[Noise] = []
        for ids in self.ids.split(list(sizes)):
            part = KeyedNoise(self._seed, ids, self._stream)
            part._draws = self._draws
            groups.append(part)
        return groups

    def bits(self, count: int) -> Tensor:
        """The next draw as 64 random bits a value, int64 ``[B, count]``."""
        self._draws += 1
        keys = mix(self._rows + _signed((self._draws * 0xD1342543DE82EF95) & ((1 << 64) - 1)))
        counters = torch.arange(1, count + 1, device=self.ids.device) * GAMMA
        return mix(keys[:, None] + counters)

    def uniform(self, *shape: int) -> Tensor:
        count = math.prod(shape)
        high = (self.bits(count) >> 40) & 0xFFFFFF  # 24 bits: every value is exact in float32
        return (high.float() * 2.0**-24).view(-1, *shape)

    def integers(self, high: int, *shape: int) -> Tensor:
        count = math.prod(shape)
        bits = (self.bits(count) >> 11) & ((1 << 53) - 1)
        return (bits % high).view(-1, *shape)

    def normal(self, *shape: int) -> Tensor:
        count = math.prod(shape)
        bits = self.bits((count + 1) // 2)
        # One word gives both uniforms of a Box-Muller pair; u_1 is in (0, 1], so the log is finite.
        u_1 = (((bits >> 32) & 0xFFFFFFFF).float() + 1.0) * 2.0**-32
        u_2 = ((bits & 0xFFFFFFFF) >> 8).float() * 2.0**-24
        radius = torch.sqrt(-2.0 * torch.log(u_1.clamp(max=1.0)))
        angle = (2.0 * math.pi) * u_2
        pair = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
        return pair[:, :count].reshape(-1, *shape)
