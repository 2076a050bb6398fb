"""The kernel distance against its sums written out, and against its expectation between two Gaussians."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reverie.core.errors import RequestError
from reverie.evaluation.kernel import kernel_distance, squared_mmd
from reverie.evaluation.measures import distances


def test_its_sums_written_out() -> None:
    x, y = torch.tensor([[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]]), torch.tensor([[2.0, 2.0], [-1.0, 1.0]])

    def k(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a[0] * b[0] + a[1] * b[1]) / 2 + 1) ** 3

    within_x = sum(k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j) / 6
    within_y = sum(k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j) / 2
    across = sum(k(a, b) for a in x for b in y) / 6
    assert float(squared_mmd(x, y)) == pytest.approx(within_x + within_y - 2 * across, rel=1e-6)


def test_it_has_no_bias_and_its_error_is_right() -> None:
    """Of N(0, 1) and N(m, s^2) the expectation is known from moments up to the third; few rows, many repeats."""
    generator = torch.Generator().manual_seed(0)
    m, s = 0.5, 1.5
    second, third = m**2 + s**2, m**3 + 3 * m * s**2
    expected = 4 + (third**2 + 3 * second**2 + 3 * m**2 + 1) - 2 * (3 * second + 1)
    x = torch.randn(400, 100, 1, generator=generator, dtype=torch.float64)
    y = m + s * torch.randn(400, 100, 1, generator=generator, dtype=torch.float64)
    found = [kernel_distance(a, b) for a, b in zip(x, y, strict=True)]
    values = torch.tensor([f.value for f in found])
    spread = values.std().item()
    assert values.mean().item() == pytest.approx(expected, abs=4 * spread / 400**0.5)
    assert (sum(f.error**2 for f in found) / 400) ** 0.5 == pytest.approx(spread, rel=0.2)


def test_a_set_against_its_like_is_nothing_on_average() -> None:
    generator = torch.Generator().manual_seed(1)
    found = kernel_distance(*torch.randn(2, 2000, 8, generator=generator, dtype=torch.float64))
    assert abs(found.value) < 4 * found.error


def test_too_few_rows_are_told() -> None:
    with pytest.raises(RequestError, match="20 rows"):
        kernel_distance(torch.randn(19, 2), torch.randn(100, 2))


def test_a_source_sorted_by_class_is_measured_over_all_its_classes() -> None:
    """Two classes, at -5 and 5, one after the other, and samples of half as many rows as are held out."""
    generator = torch.Generator().manual_seed(2)

    def rows(count: int) -> Tensor:
        return (
            torch.randn(count, 1, generator=generator)
            + torch.tensor([-5.0, 5.0]).repeat_interleave(count // 2)[:, None]
        )

    def of_rows(rows: Tensor, chosen: np.ndarray | None = None) -> Iterator[Tensor]:
        yield rows if chosen is None else rows[torch.from_numpy(chosen)]

    dataset: Any = SimpleNamespace(train=rows(2000), held_out=rows(1000))
    features: Any = SimpleNamespace(size=1, of_rows=of_rows)
    samples: Any = SimpleNamespace(features=rows(1000)[::2])
    figures = distances(dataset, features, samples, seed=0)
    # Of the first class alone the squared distance of means is 25, and the kernel's about 26^3.
    for name, most in {"frechet_distance": 1.0, "kernel_distance": 3000.0}.items():
        real = figures[name].real
        assert real is not None
        assert abs(real) < most, name
    assert figures["coverage"].value > 0.9
