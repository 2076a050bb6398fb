"""The kernel distance against its sums written out, and against its expectation between two Gaussians."""

import math

import pytest
import torch

from reverie.core.errors import RequestError
from reverie.evaluation.kernel import kernel_distance, squared_mmd, typical_distance


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


def test_the_gaussian_kernel_between_two_gaussians() -> None:
    r"""In one dimension E k(x, y) = s / sqrt(s^2 + v) exp(-m^2 / 2 (s^2 + v)), x - y being of mean m, variance v."""
    generator = torch.Generator().manual_seed(2)
    m, width = 0.7, 0.8

    def expected(mean: float, variance: float) -> float:
        total = width**2 + variance
        return width / total**0.5 * math.exp(-(mean**2) / (2 * total))

    x = torch.randn(200, 100, 1, generator=generator, dtype=torch.float64)
    y = m + 1.5 * torch.randn(200, 100, 1, generator=generator, dtype=torch.float64)
    values = torch.stack([squared_mmd(a, b, width) for a, b in zip(x, y, strict=True)])
    known = expected(0, 2) + expected(0, 4.5) - 2 * expected(m, 3.25)
    assert values.mean().item() == pytest.approx(known, abs=4 * values.std().item() / 200**0.5)
    assert typical_distance(torch.tensor([[0.0], [1.0], [3.0]])) == 2.0


def test_a_set_against_its_like_is_nothing_on_average() -> None:
    generator = torch.Generator().manual_seed(1)
    found = kernel_distance(*torch.randn(2, 2000, 8, generator=generator, dtype=torch.float64))
    assert abs(found.value) < 4 * found.error


def test_too_few_rows_are_told() -> None:
    with pytest.raises(RequestError, match="20 rows"):
        kernel_distance(torch.randn(19, 2), torch.randn(100, 2))
