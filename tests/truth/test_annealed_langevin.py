"""Annealed Langevin dynamics on Gaussian data, where every step is linear: its moments are exact, without samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reverie.core.noise import KeyedNoise
from reverie.maths.paths import LinearBetas, NoiseLevels, Straight
from reverie.maths.posteriors import GaussianData
from reverie.maths.times import log_snr_grid
from reverie.samplers.annealed_langevin import AnnealedLangevin
from reverie.samplers.integrate import integrate
from reverie.samplers.solver import find_solver

DOUBLE = torch.float64
MEAN = torch.tensor([0.6, -0.4], dtype=DOUBLE)
COVARIANCE = torch.tensor([[0.5, 0.3], [0.3, 0.4]], dtype=DOUBLE)
LEVELS = NoiseLevels(steps=10, smallest=0.01, largest=5.0)


class Units:
    """Draw k is a unit in place j for row 3 + 2 k + j, and 0 for the others."""

    def __init__(self, rows: int) -> None:
        self.ids, self.draws = torch.arange(rows), 0

    def normal(self, *shape: int) -> torch.Tensor:
        z = torch.zeros(len(self.ids), 2, dtype=DOUBLE)
        z[3 + 2 * self.draws : 5 + 2 * self.draws] = torch.eye(2, dtype=DOUBLE)
        self.draws += 1
        return z


def moments(path, solver: AnnealedLangevin, grid: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact mean and covariance of what becomes of N(0, (alpha_1^2 + sigma_1^2) I)."""
    draws = solver.repeats * (len(grid) - 1)
    rows = torch.zeros(3 + 2 * draws, 2, dtype=DOUBLE)
    rows[1:3] = torch.eye(2, dtype=DOUBLE)
    ends = integrate(GaussianData(path, MEAN, COVARIANCE), solver, rows, grid, Units(len(rows)))
    matrix, spread = (ends[1:3] - ends[0]).T, (ends[3:] - ends[0]).T
    alpha, sigma = (a.item() for a in path(torch.tensor([grid[0]], dtype=DOUBLE)))
    return ends[0], (alpha**2 + sigma**2) * matrix @ matrix.T + spread @ spread.T


def test_it_is_algorithm_1_on_the_papers_levels():
    """Written out with the paper's step sizes and the exact score, and the denoising at the end."""
    grid = [i / 10 for i in range(10, -1, -1)]
    noise = KeyedNoise(0, torch.arange(50), "test")
    x = start = 5 * noise.normal(2).double()
    found = integrate(GaussianData(LEVELS, MEAN, COVARIANCE), AnnealedLangevin(repeats=3, rate=0.2), start, grid, noise)
    again = KeyedNoise(0, torch.arange(50), "test")
    again.normal(2)
    sigmas = [0.01 * 500 ** (k / 9) for k in range(9, -1, -1)]
    epsilon = 0.2 * sigmas[-1] ** 2

    def score(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return torch.linalg.solve(COVARIANCE + sigma**2 * torch.eye(2, dtype=DOUBLE), (MEAN - x).T).T

    for sigma in sigmas:
        a = epsilon * sigma**2 / sigmas[-1] ** 2
        for _ in range(3):
            x = x + a / 2 * score(x, sigma) + a**0.5 * again.normal(2).double()
    torch.testing.assert_close(found, x + sigmas[-1] ** 2 * score(x, sigmas[-1]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("path", [LEVELS, LinearBetas(), Straight()], ids=lambda path: type(path).__name__)
def test_mean_and_covariance_come_to_those_of_the_data_with_levels_and_with_repeats(path):
    """The error falls as 1 / levels; and ten times the repeats take a fifth and less of it."""
    off = [
        (moments(path, AnnealedLangevin(), log_snr_grid(n, path))[1] - COVARIANCE).abs().max().item()
        for n in (50, 100, 200)
    ]
    assert -np.polyfit(np.log([50, 100, 200]), np.log(off), 1)[0] > 0.8, off
    assert off[2] < 0.1
    mean, covariance = moments(path, AnnealedLangevin(repeats=50), log_snr_grid(50, path))
    torch.testing.assert_close(mean, MEAN, rtol=0, atol=0.01)
    assert (covariance - COVARIANCE).abs().max().item() < 0.2 * off[0]


def test_many_steps_at_one_level_have_their_own_variance():
    """V / (1 - r sigma^2 / 4 V) along each axis of the level's covariance V; the next level takes rows as they are."""
    rate, (t, s) = 0.8, (0.7, 0.6)
    _, covariance = moments(LEVELS, AnnealedLangevin(repeats=300, rate=rate), [t, s])
    sigma = LEVELS(torch.tensor([t], dtype=DOUBLE))[1].item()
    variances, axes = torch.linalg.eigh(COVARIANCE + sigma**2 * torch.eye(2, dtype=DOUBLE))
    expected = variances / (1 - rate * sigma**2 / 4 / variances)
    torch.testing.assert_close(covariance, axes @ torch.diag(expected) @ axes.T, rtol=1e-6, atol=1e-9)


def test_it_is_found_by_its_name():
    assert find_solver({"name": "annealed-langevin", "repeats": 7}) == AnnealedLangevin(repeats=7)
