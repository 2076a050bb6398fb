"""Toy densities against quadrature, and against where their own samples fall."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reverie.data.toys import TOYS, log_density, sample


def cells(edges: np.ndarray, per_cell: int) -> torch.Tensor:
    """Gauss-Legendre nodes inside each cell of a grid, ``[cells, per_cell ** 2, 2]``, and weights that sum to 1."""
    nodes, _ = np.polynomial.legendre.leggauss(per_cell)
    width = edges[1] - edges[0]
    axis = edges[:-1, None] + (nodes + 1) / 2 * width  # [n, per_cell]
    n = len(edges) - 1
    x = np.broadcast_to(axis[:, None, :, None], (n, n, per_cell, per_cell))
    y = np.broadcast_to(axis[None, :, None, :], (n, n, per_cell, per_cell))
    return torch.from_numpy(np.stack([x, y], axis=-1).reshape(n * n, -1, 2))


def weights(per_cell: int) -> torch.Tensor:
    _, w = np.polynomial.legendre.leggauss(per_cell)
    return torch.from_numpy(np.outer(w / 2, w / 2).reshape(-1))


def cell_masses(name: str, edges: np.ndarray, per_cell: int) -> np.ndarray:
    points = cells(edges, per_cell)
    density = log_density(name, points.reshape(-1, 2)).exp().reshape(len(points), -1)
    area = (edges[1] - edges[0]) ** 2
    return (density @ weights(per_cell) * area).numpy()


@pytest.mark.parametrize("name", ["moons", "spirals", "swiss-roll", "checkerboard"])
def test_density_integrates_to_one_and_samples_follow_it(name: str):
    edges = np.linspace(-1.5, 1.5, 49) if name == "checkerboard" else np.linspace(-1.28, 1.28, 49)
    masses = cell_masses(name, edges, 4)
    assert masses.sum() == pytest.approx(1.0, abs=2e-4)
    x, _ = sample(name, 100_000, seed=1)
    counts, _, _ = np.histogram2d(x[:, 0], x[:, 1], bins=(edges, edges))
    assert counts.sum() > 99_990
    expected = masses * len(x)
    sure = expected > 20
    # Pearson's statistic over n cells has mean n and deviation sqrt(2 n).
    statistic = ((counts.reshape(-1) - expected)[sure] ** 2 / expected[sure]).sum()
    assert abs(statistic - sure.sum()) < 6 * math.sqrt(2 * sure.sum())
    # Where there is almost no mass there are almost no samples.
    assert counts.reshape(-1)[~sure].sum() == pytest.approx(
        expected[~sure].sum(), abs=6 * math.sqrt(20 + expected[~sure].sum())
    )


@pytest.mark.parametrize(("name", "modes", "sigma"), [("ring", 8, 0.01), ("grid", 25, 0.0125)])
def test_gaussian_toys_have_their_closed_form(name: str, modes: int, sigma: float):
    # At a centre only its own Gaussian counts: p = 1 / (K 2 pi sigma^2).
    x = torch.tensor([[1.0, 0.0]])
    assert log_density(name, x).item() == pytest.approx(-math.log(modes * 2 * math.pi * sigma**2))
    points, mode = sample(name, 50_000, seed=1)
    assert np.bincount(mode).shape == (modes,)
    entropy = math.log(modes) + math.log(2 * math.pi * math.e * sigma**2)  # modes do not overlap
    log_p = log_density(name, torch.from_numpy(points))
    # Var[log p] = 1 for a Gaussian in the plane.
    assert -log_p.mean().item() == pytest.approx(entropy, abs=6 / math.sqrt(50_000))


def test_curve_density_is_as_exact_as_double_precision():
    # The straight curve c(u) = (u, 0) has a closed form through the error function.
    from reverie.data import toys

    line = toys.Curves((lambda u: np.stack([u, np.zeros_like(u)], axis=-1),), 0.02)
    centres, log_weights = toys._components(line)
    x = torch.tensor([[0.3, 0.01], [-0.03, 0.0], [1.02, 0.05]], dtype=torch.float64)
    inside = 0.5 * (torch.erf((1 - x[:, 0]) / (0.02 * math.sqrt(2))) + torch.erf(x[:, 0] / (0.02 * math.sqrt(2))))
    across = torch.exp(-0.5 * (x[:, 1] / 0.02) ** 2) / (0.02 * math.sqrt(2 * math.pi))
    ours = toys._log_mixture(x, centres, log_weights, 0.02)
    torch.testing.assert_close(ours, torch.log(inside * across), rtol=1e-9, atol=1e-9)


def test_checkerboard_is_exactly_uniform_on_half_the_square():
    x, _ = sample("checkerboard", 10_000)
    assert (log_density("checkerboard", torch.from_numpy(x)) == -math.log(2)).all()
    outside = torch.tensor([[-0.75, -0.25], [1.5, 0.0], [0.0, -1.5]])
    assert torch.isneginf(log_density("checkerboard", outside)).all()


def test_samples_are_the_same_for_a_seed_and_within_the_picture():
    for name in TOYS:
        x, mode = sample(name, 1000, seed=3)
        again, _ = sample(name, 1000, seed=3)
        np.testing.assert_array_equal(x, again)
        assert x.dtype == np.float32
        assert mode.dtype == np.int64
        assert np.abs(x).max() < 1.28
