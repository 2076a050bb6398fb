"""Nearest neighbours against every distance, and against copies that the fast form of distances would miss."""

import math

import numpy as np
import pytest
import torch

from reverie.core.batch import Condition
from reverie.core.model import Model, ModelConfig
from reverie.core.noise import Noise
from reverie.core.space import Space
from reverie.data.dataset import Rows
from reverie.data.pool import Facts, Pool
from reverie.evaluation.likelihood import likelihood
from reverie.evaluation.neighbours import nearest, pixel_blocks


def pool_of(rows: np.ndarray) -> Pool:
    digests = np.zeros((len(rows), 16), dtype=np.uint8)
    return Pool("key", "test", rows.shape[1:], digests, lambda index: rows[index], Facts())


def rows_of(rows: np.ndarray, size: int | None = None) -> Rows:
    return Rows(pool_of(rows), np.arange(len(rows)), size, False)


@pytest.mark.parametrize("block", [1, 7, 100])
def test_equals_every_distance(block: int) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, rows = torch.randn(9, 5, generator=generator), torch.randn(50, 5, generator=generator)
    every = torch.stack([torch.stack([(q - r).square().sum().sqrt() for r in rows]) for q in queries])
    expected = every.topk(3, largest=False)
    found = nearest(queries, rows.split(block), 3)
    torch.testing.assert_close(found.distance, expected.values)
    assert torch.equal(found.places, expected.indices)


def test_a_copy_is_at_distance_zero() -> None:
    # Far from the origin |a|^2 + |b|^2 - 2ab has an error of its own size: a copy and its neighbour swap.
    generator = torch.Generator().manual_seed(1)
    rows = 100 + torch.randn(40, 64, generator=generator) * 1e-3
    found = nearest(rows[[3, 17]], rows.split(16))
    assert found.places.flatten().tolist() == [3, 17]
    assert found.distance.flatten().tolist() == [0.0, 0.0]


def test_fewer_rows_than_asked_for() -> None:
    assert nearest(torch.zeros(2, 3), [torch.ones(2, 3)], 5).distance.tolist() == [[pytest.approx(3**0.5)] * 2] * 2


def test_pixel_blocks_are_all_rows_in_order() -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 1, 4, 4)).astype(np.uint8)
    blocks = list(pixel_blocks(rows_of(images, 4), 16, values=64))
    assert [len(b) for b in blocks] == [4, 4, 2]
    np.testing.assert_allclose(torch.cat(blocks).numpy(), images.reshape(10, 16) / 127.5 - 1, atol=1e-6)


class Uniform(Model):
    """The uniform density over the bins of bytes; 0 outside, and where every value still lies on its level."""

    def log_prob(self, x: torch.Tensor, condition: Condition | None = None) -> torch.Tensor:
        inside = (x.abs() <= 256 / 255).all(1)
        levels = (x + 1) * 127.5
        spread = ((levels - levels.round()).abs() > 1e-3).any(1)
        return torch.where(inside & spread, x.shape[1] * math.log(255 / 512), -torch.inf)

    def sample(self, noise: Noise, condition: Condition | None = None, how: object = None) -> torch.Tensor:
        return noise.uniform(*self.space.shape) * 2 - 1


def test_density_of_uniform_bytes_costs_eight_bits() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 6, 1, 1)).astype(np.uint8)
    rows = Rows(pool_of(pixels), np.arange(100), None, False)
    found = likelihood(Uniform(ModelConfig(), Space((6,), depth=256), {}), FlatRows(rows), most=70)
    assert found is not None
    assert (found.rows, found.bits_per_dim) == (70, pytest.approx(8.0))
    assert found.error == pytest.approx(0.0, abs=1e-6)
    assert "dequantisation of 256 levels" in found.statement
    # Without levels the log density stands as it is, of the rows as they are.
    halves = Rows(pool_of(np.full((5, 6), 0.5, dtype=np.float32)), np.arange(5), None, False)
    plain = likelihood(Uniform(ModelConfig(), Space((6,)), {}), halves)
    assert plain is not None
    assert plain.nats == pytest.approx(6 * math.log(255 / 512))


class FlatRows:
    """Rows as vectors."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: np.ndarray) -> tuple[torch.Tensor, Condition]:
        x, condition = self.rows.take(index)
        return x.flatten(1), condition
