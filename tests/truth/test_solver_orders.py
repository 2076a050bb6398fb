"""Solvers against exact flows and exact moments: measured orders, both ends of every path, any batch split."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from reverie.core.errors import RequestError
from reverie.core.noise import KeyedNoise
from reverie.maths.paths import Edm, LinearBetas, Straight, VarianceExploding
from reverie.maths.posteriors import Dirac, GaussianData, GaussianMixtureData, LearnedStep, backward
from reverie.maths.times import log_snr, log_snr_grid, time_grid, time_of
from reverie.samplers.ddpm import Ancestral
from reverie.samplers.dormand_prince import DormandPrince
from reverie.samplers.dpm_solver import DPMSolver
from reverie.samplers.edm import EDM
from reverie.samplers.heun import Heun
from reverie.samplers.integrate import integrate
from reverie.samplers.predictor_corrector import PredictorCorrector
from reverie.samplers.solver import find_solver, solvers
from reverie.samplers.unipc import UniPC, _phi

DOUBLE = torch.float64


@dataclass(frozen=True)
class Exploding:
    """alpha = 1; sigma up to far above 1."""

    most: float = 50.0

    def __call__(self, t):
        return torch.ones_like(t), self.most * t**3


@dataclass(frozen=True)
class Karras:
    """EDM's: sigma from 80 to 0.002, not to 0."""

    def __call__(self, t):
        return torch.ones_like(t), (0.002 ** (1 / 7) + t * (80 ** (1 / 7) - 0.002 ** (1 / 7))) ** 7


PATHS = {"linear": LinearBetas(), "straight": Straight(), "exploding": Exploding(), "karras": Karras()}
paths = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)

WEIGHTS, MEANS = torch.tensor([0.3, 0.7], dtype=DOUBLE), torch.tensor([[-0.8], [0.6]], dtype=DOUBLE)
VARIANCES = torch.tensor([[[0.1]], [[0.05]]], dtype=DOUBLE)
MEAN = torch.tensor([0.6, -0.4], dtype=DOUBLE)
COVARIANCE = torch.tensor([[0.5, 0.3], [0.3, 0.4]], dtype=DOUBLE)


def noise(count: int, seed: int = 0) -> KeyedNoise:
    return KeyedNoise(seed, torch.arange(count), "test")


def times(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=DOUBLE)


def mixture(path) -> GaussianMixtureData:
    return GaussianMixtureData(path, WEIGHTS, MEANS, VARIANCES)


def below(path, x: torch.Tensor, t: float) -> torch.Tensor:
    """The share of the mixture's marginal at t that is below x."""
    alpha, sigma = (a.item() for a in path(times(t)))
    scale = torch.sqrt(alpha**2 * VARIANCES[:, 0, 0] + sigma**2)
    return (WEIGHTS * torch.special.ndtr((x - alpha * MEANS[:, 0]) / scale)).sum(-1, keepdim=True)


def flow(path, x: torch.Tensor, t: float, s: float) -> torch.Tensor:
    """The exact flow of the mixture, in one dimension: it keeps shares. Found by bisection."""
    share, low, high = below(path, x, t), torch.full_like(x, -200), torch.full_like(x, 200)
    for _ in range(80):
        middle = (low + high) / 2
        under = below(path, middle, s) < share
        low, high = torch.where(under, middle, low), torch.where(under, high, middle)
    return middle


def starts(path, t: float) -> torch.Tensor:
    """Rows that the mixture has at t, from rare ones below to rare ones above."""
    alpha, sigma = (a.item() for a in path(times(t)))
    return torch.linspace(-2, 2, 9, dtype=DOUBLE)[:, None] * math.hypot(alpha, sigma)


def segment(path, steps: int, least: float = -2.0, most: float = 2.0) -> list[float]:
    """Times between which the log-SNR rises evenly."""
    return time_of(path, torch.linspace(least, most, steps + 1, dtype=DOUBLE)).tolist()


def slope(steps: list[int], errors: list[float]) -> float:
    """The order: minus the regressed slope of log error over log steps."""
    return -np.polyfit(np.log(steps), np.log(errors), 1)[0]


# Dormand-Prince without error control takes a step from each time to the next: the grids here are finer than its first.
FREE = DormandPrince(relative=1e9, absolute=1e9)


@pytest.mark.parametrize(
    ("solver", "order", "steps", "path"),
    [
        (find_solver("euler"), 1, [20, 40, 80], Exploding()),
        (find_solver("ddim"), 1, [20, 40, 80], LinearBetas()),
        (Heun(), 2, [20, 40, 80], LinearBetas()),
        (DPMSolver(), 2, [20, 40, 80], Exploding()),
        (UniPC(order=1), 2, [20, 40, 80], LinearBetas()),
        (UniPC(), 3, [20, 40, 80], Exploding()),
        (UniPC(order=3), 4, [50, 100], Straight()),
        (FREE, 5, [25, 50], Straight()),
    ],
    ids=["euler", "ddim", "heun", "dpm", "unipc-1", "unipc-2", "unipc-3", "dormand-prince"],
)
def test_on_a_mixture_deterministic_solvers_have_their_declared_order(solver, order, steps, path):
    model = mixture(path)
    grids = [segment(path, n) for n in steps]
    t, s = grids[0][0], grids[0][-1]
    x = starts(path, t)
    exact = flow(path, x, t, s)
    errors = [(integrate(model, solver, x, grid, noise(9)) - exact).abs().max().item() for grid in grids]
    assert slope(steps, errors) == pytest.approx(order, abs=0.25), errors


@paths
def test_on_a_mixture_all_lead_from_the_same_noise_to_the_same_row(path):
    """From one end to the other, where one step is DDIM's: the exact flow, the nearer the more steps."""
    x = starts(path, 1.0)
    exact = flow(path, x, 1.0, 0.0)
    for solver, least in (
        (find_solver("euler"), 0.12),
        (Heun(), 2e-2),
        (DPMSolver(), 2e-2),
        (UniPC(order=3), 8e-3),
    ):
        errors = [
            (integrate(mixture(path), solver, x, log_snr_grid(n, path), noise(9)) - exact).abs().max().item()
            for n in (12, 36)
        ]
        assert errors[1] < least, (solver, errors)
        assert errors[1] < errors[0] / 2
    adaptive = integrate(mixture(path), DormandPrince(1e-6, 1e-6), x, [1.0, 0.0], noise(9))
    assert (adaptive - exact).abs().max() < 5e-5


def test_dormand_princes_error_follows_its_tolerance_and_it_works_both_ways():
    path = Straight()
    x = starts(path, 0.95)
    exact = flow(path, x, 0.95, 0.1)
    for tolerance in (1e-3, 1e-5, 1e-8):
        solver = DormandPrince(tolerance, tolerance)
        there = integrate(mixture(path), solver, x, [0.95, 0.1], noise(9))
        assert 1e-3 * tolerance < (there - exact).abs().max() < 50 * tolerance
        back = integrate(mixture(path), solver, there, [0.1, 0.95], noise(9))
        assert (back - x).abs().max() < 100 * tolerance


def test_dormand_prince_gives_up_in_a_sentence():
    class Wild:
        path = Straight()

        def denoise(self, x_t, t, condition=None):
            return Dirac(x_t * torch.nan)

    with pytest.raises(RequestError, match="not finite"):
        integrate(Wild(), DormandPrince(), torch.ones(2, 1), [1.0, 0.0], noise(2))


class Units:
    """Noise for linear solvers: draw k is a unit in place j for row 3 + 2 k + j, and 0 for the others."""

    def __init__(self, rows: int) -> None:
        self.ids, self.draws = torch.arange(rows), 0

    def normal(self, *shape: int) -> torch.Tensor:
        z = torch.zeros(len(self.ids), 2, dtype=DOUBLE)
        z[3 + 2 * self.draws : 5 + 2 * self.draws] = torch.eye(2, dtype=DOUBLE)
        self.draws += 1
        return z


def moments(model: GaussianData, solver, grid: list[float], draws: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact mean and covariance of what a solver makes of the exact marginal at the grid's first time.

    On Gaussian data each row is linear in its start and in every draw: rows of units show all coefficients at once.
    """
    rows = torch.zeros(3 + 2 * draws, 2, dtype=DOUBLE)
    rows[1:3] = torch.eye(2, dtype=DOUBLE)
    units = Units(len(rows))
    ends = integrate(model, solver, rows, grid, units)
    assert units.draws <= draws
    matrix, spread = (ends[1:3] - ends[0]).T, (ends[3:] - ends[0]).T
    mean, covariance = marginal(model.path, grid[0])
    return matrix @ mean + ends[0], matrix @ covariance @ matrix.T + spread @ spread.T


def marginal(path, t: float) -> tuple[torch.Tensor, torch.Tensor]:
    alpha, sigma = (a.item() for a in path(times(t)))
    return alpha * MEAN, alpha**2 * COVARIANCE + sigma**2 * torch.eye(2, dtype=DOUBLE)


@pytest.mark.parametrize(
    ("solver", "order"),
    [
        (Ancestral(), 1),
        (Ancestral("posterior"), 1),
        (find_solver({"name": "ddim", "eta": 1.0}), 1),
        (PredictorCorrector(corrections=0), 1),
        (DPMSolver(eta=1.0), 2),
        (DPMSolver(eta=0.5), 2),
        (EDM(churn=4.0, strength=1.0), 2),
    ],
    ids=["beta", "posterior", "ddim", "reverse", "sde", "half", "edm"],
)
def test_samplers_with_noise_have_their_weak_order(solver, order):
    path = LinearBetas()
    model, steps = GaussianData(path, MEAN, COVARIANCE), [15, 30, 60]
    errors = []
    for n in steps:
        grid = segment(path, n)
        mean, covariance = moments(model, solver, grid, n)
        exact_mean, exact_covariance = marginal(path, grid[-1])
        torch.testing.assert_close(mean, exact_mean)
        errors.append((covariance - exact_covariance).abs().max().item())
    assert slope(steps, errors) == pytest.approx(order, abs=0.2), errors


@paths
def test_samplers_with_noise_hit_mean_and_covariance_at_the_data(path):
    model = GaussianData(path, MEAN, COVARIANCE)
    for solver, least in (
        (Ancestral(), 0.2),
        (PredictorCorrector(), 0.15),
        (PredictorCorrector("ancestral"), 0.15),
        (DPMSolver(eta=1.0), 2e-2),
        (EDM(strength=1.0), 1e-2),
    ):
        mean, covariance = moments(model, solver, log_snr_grid(40, path), 80)
        torch.testing.assert_close(mean, MEAN, rtol=0, atol=1e-9)
        assert (covariance - COVARIANCE).abs().max() < least, solver


def test_the_last_step_is_not_corrected_where_a_path_ends_with_some_noise():
    asked = []

    class Counted(GaussianData):
        def denoise(self, x_t, t, condition=None):
            asked.append(float(t[0]))
            return super().denoise(x_t, t, condition)

    model = Counted(Karras(), MEAN, COVARIANCE)
    integrate(model, PredictorCorrector(), noise(4).normal(2).double(), [1.0, 0.5, 0.0], noise(4))
    assert asked == [1.0, 0.5, 0.5]


def test_langevin_steps_have_their_own_variance():
    """Many of them at one time: V / (1 - eps / 2 V) along each axis of the covariance V, eps = 2 (r sigma)^2."""
    path, r, many = Exploding(), 0.4, 150
    model = GaussianData(path, MEAN, COVARIANCE)
    t, s = 0.25, 0.22
    _, covariance = moments(model, PredictorCorrector(corrections=many, snr=r), [t, s], 1 + many)
    sigma = path(times(s))[1].item()
    variances, axes = torch.linalg.eigh(marginal(path, s)[1])
    expected = variances / (1 - (r * sigma) ** 2 / variances)
    torch.testing.assert_close(covariance, axes @ torch.diag(expected) @ axes.T, rtol=1e-6, atol=1e-9)


def test_churned_rows_are_those_of_the_later_time():
    path = LinearBetas()
    model = GaussianData(path, MEAN, COVARIANCE)
    rows, t = torch.cat([torch.zeros(1, 2), torch.eye(2), torch.zeros(2, 2)]).double(), 0.4
    z = torch.cat([torch.zeros(3, 2), torch.eye(2)]).double()
    ends, t_hat = EDM(churn=6.0)._churned(model, rows, torch.full((5,), t, dtype=DOUBLE), z, 20)
    before, after = log_snr(path, times(t)), log_snr(path, t_hat[:1])
    assert (before - after).item() == pytest.approx(math.log(1.3), abs=1e-9)  # gamma = 6 / 20
    mean, covariance = marginal(path, t)
    matrix, spread = (ends[1:3] - ends[0]).T, (ends[3:] - ends[0]).T
    exact_mean, exact_covariance = marginal(path, t_hat[0].item())
    torch.testing.assert_close(matrix @ mean + ends[0], exact_mean)
    torch.testing.assert_close(matrix @ covariance @ matrix.T + spread @ spread.T, exact_covariance)
    untouched, same = EDM(low=1e3, high=1e4)._churned(model, rows, torch.full((5,), t, dtype=DOUBLE), z, 20)
    assert torch.equal(untouched, rows)
    assert same[0] == t


def test_edm_without_churn_is_heun():
    path = Straight()
    x = starts(path, 1.0)
    ours, heuns = (integrate(mixture(path), solver, x, time_grid(9), noise(9)) for solver in (EDM(churn=0.0), Heun()))
    torch.testing.assert_close(ours, heuns, rtol=1e-9, atol=1e-9)


def test_dpm_solvers_second_step_is_algorithm_2():
    """Written out with exponentials, at three times with uneven steps."""
    path = LinearBetas()
    model, x, grid = mixture(path), starts(path, 0.8), [0.8, 0.65, 0.4]
    alphas, sigmas = path(times(*grid))
    lambdas = torch.log(alphas / sigmas)
    h = lambdas.diff()
    x_0 = model.denoise(x, times(grid[0]).expand(9)).mean
    x_1 = sigmas[1] / sigmas[0] * x - alphas[1] * (torch.exp(-h[0]) - 1) * x_0
    now = model.denoise(x_1, times(grid[1]).expand(9)).mean
    ratio = h[0] / h[1]
    middle = (1 + 1 / (2 * ratio)) * now - 1 / (2 * ratio) * x_0
    expected = sigmas[2] / sigmas[1] * x_1 - alphas[2] * (torch.exp(-h[1]) - 1) * middle
    torch.testing.assert_close(integrate(model, DPMSolver(), x, grid, noise(9)), expected)


def test_phi_functions_are_their_integrals():
    nodes, weights = (torch.tensor(a) for a in np.polynomial.legendre.leggauss(40))
    u, weights = (nodes + 1) / 2, weights / 2
    for z in (-0.001, -0.7, -0.999, -1.001, -3.0, -20.0):
        found = _phi(times(z), 4)
        for k in range(1, 5):
            exact = (weights * torch.exp((1 - u) * z) * u ** (k - 1)).sum() / math.factorial(k - 1)
            assert found[k].item() == pytest.approx(exact.item(), rel=1e-9)


VARIANTS = [
    *solvers(),
    {"name": "ddim", "eta": 1.0},
    {"name": "dpm-solver", "eta": 1.0},
    {"name": "unipc", "order": 3},
    {"name": "predictor-corrector", "predictor": "ancestral"},
]


@paths
@pytest.mark.parametrize("choice", VARIANTS, ids=str)
def test_both_ends_are_finite_and_rows_do_not_depend_on_the_batch(path, choice):
    solver = find_solver(choice)
    model = GaussianMixtureData(path, WEIGHTS.float(), MEANS.float(), VARIANCES.float())
    for steps in (1, 2, 6):
        whole = noise(6, seed=3)
        x_1 = whole.normal(1) * path(torch.ones(1))[1]
        x = integrate(model, solver, x_1, time_grid(steps), whole)
        assert bool(torch.isfinite(x).all())
        # Langevin dynamics takes rows to the next level as they are: six levels from 80 to 0 leave much of their noise.
        assert x.abs().max() < (80 if choice == "annealed-langevin" else 10)
        for rows in (range(0, 1), range(1, 6)) if steps == 6 else ():
            part = KeyedNoise(3, torch.tensor(list(rows)), "test")
            part.normal(1)
            alone = integrate(model, solver, x_1[rows.start : rows.stop], time_grid(steps), part)
            torch.testing.assert_close(alone, x[rows.start : rows.stop], rtol=1e-4, atol=1e-4)


@dataclass
class Learned:
    """An exact denoiser that also says where between beta-tilde and beta the step's variance is."""

    data: GaussianData
    share: float

    @property
    def path(self):
        return self.data.path

    def denoise(self, x_t, t, condition=None):
        mean = self.data.denoise(x_t, t).mean
        return LearnedStep(mean, torch.full_like(mean, self.share))


@pytest.mark.parametrize("path", [LinearBetas(), Straight(), Edm(), VarianceExploding()])
def test_one_ancestral_step_keeps_data_of_unit_variance(path):
    data = GaussianData(path, torch.zeros(1, dtype=DOUBLE), torch.eye(1, dtype=DOUBLE))
    t, s = times(0.6), times(0.3)
    (a, b), (c, d) = path(t), path(s)

    def step(x):
        return Ancestral().step(data, torch.full((1, 1), x, dtype=DOUBLE), t, s, None, noise(1), ())[0]

    gain, spread = step(1.0) - step(0.0), step(0.0) / noise(1).normal(1)
    torch.testing.assert_close(gain**2 * (a**2 + b**2) + spread**2, (c**2 + d**2)[:, None])


def test_the_ancestral_sampler_takes_a_learned_variance():
    path = LinearBetas()
    data = GaussianData(path, MEAN, COVARIANCE)
    x, t, s = noise(5).normal(2).double(), times(0.4).expand(5), times(0.398).expand(5)

    def spread(model, solver) -> torch.Tensor:
        drawn, _ = solver.step(model, x, t, s, None, noise(5), ())
        mean = backward(path, t, s)
        centre = mean.a[:, None] * x + mean.b[:, None] * data.denoise(x, t).mean
        return (drawn - centre) / noise(5).normal(2)

    chain = backward(path, t[:1], s[:1])
    beta, tilde = chain.fresh.sqrt().item(), chain.variance.sqrt().item()
    assert tilde < 0.999 * beta
    for share, expected in ((1.0, beta), (0.0, tilde), (0.5, math.sqrt(beta * tilde))):
        torch.testing.assert_close(spread(Learned(data, share), Ancestral()), torch.full_like(x, expected))
    torch.testing.assert_close(spread(data, Ancestral()), torch.full_like(x, beta))
    torch.testing.assert_close(spread(Learned(data, 0.0), Ancestral("beta")), torch.full_like(x, beta))
    last, _ = Ancestral().step(Learned(data, 0.3), x, t, 0 * s, None, noise(5), ())
    torch.testing.assert_close(last, data.denoise(x, t).mean)
