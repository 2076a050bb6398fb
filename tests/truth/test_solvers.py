"""Solvers on the exact denoiser of Gaussian data: targets hit, orders measured, both ways."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch

from reverie.core.batch import Condition
from reverie.core.errors import RequestError
from reverie.core.noise import KeyedNoise
from reverie.maths.paths import LinearBetas, Straight
from reverie.maths.posteriors import Dirac, GaussianData, LearnedStep
from reverie.maths.times import time_grid
from reverie.samplers.ddim import DDIM
from reverie.samplers.ddpm import Ancestral
from reverie.samplers.euler import Euler
from reverie.samplers.guidance.classifier_free import ClassifierFree, drop_labels
from reverie.samplers.guidance.clip import Clip
from reverie.samplers.heun import Heun
from reverie.samplers.integrate import Film, Frame, integrate
from reverie.samplers.solver import find_solver, solvers

PATHS = [LinearBetas(), Straight()]
IDS = ["linear", "straight"]
MEAN = torch.tensor([0.6, -0.4], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.5, 0.3], [0.3, 0.4]], dtype=torch.float64)


def noise(count: int = 1, seed: int = 0) -> KeyedNoise:
    return KeyedNoise(seed, torch.arange(count), "test")


def even_grid(path, steps: int) -> list[float]:
    """Times from 1 to 0 between which sigma / (alpha + sigma) falls evenly: orders are in steps of it.

    (On DDPM's path sigma starts as the root of t, so that even times take a first step too long for order 2.)
    """
    t = torch.linspace(0, 1, 200001, dtype=torch.float64)
    alpha, sigma = path(t)
    share = (sigma / (alpha + sigma)).numpy()
    return [1.0, *np.interp(np.linspace(share[-1], 0, steps + 1)[1:-1], share, t.numpy()).tolist(), 0.0]


def affine(model: GaussianData, solver, times: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """A solver without noise takes x to A x + b on Gaussian data: A and b, exactly."""
    probes = torch.cat([torch.zeros(1, 2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)])
    ends = integrate(model, solver, probes, times, noise(3))
    return (ends[1:] - ends[0]).T, ends[0]


def flow_map(model: GaussianData) -> tuple[torch.Tensor, torch.Tensor]:
    """The exact flow from t = 1 to data: x_0 = m + C^{1/2} M^{-1/2} (x_1 - alpha_1 m), M the covariance at t = 1."""
    alpha, sigma = (a.item() for a in model.path(torch.ones(1, dtype=torch.float64)))
    variances, axes = torch.linalg.eigh(COVARIANCE)
    matrix = axes @ torch.diag(torch.sqrt(variances / (alpha**2 * variances + sigma**2))) @ axes.T
    return matrix, MEAN - matrix @ (alpha * MEAN)


def error(model: GaussianData, solver, steps: int) -> float:
    matrix, shift = affine(model, solver, even_grid(model.path, steps))
    exact_matrix, exact_shift = flow_map(model)
    return max((matrix - exact_matrix).abs().max().item(), (shift - exact_shift).abs().max().item())


@pytest.mark.parametrize("path", PATHS, ids=IDS)
@pytest.mark.parametrize(("solver", "order"), [(Euler(), 1), (DDIM(), 1), (Heun(), 2)], ids=["euler", "ddim", "heun"])
def test_deterministic_solvers_have_their_order_and_reach_the_data(path, solver, order):
    model = GaussianData(path, MEAN, COVARIANCE)
    steps = [40, 80, 160, 320]
    errors = [error(model, solver, n) for n in steps]
    slopes = [math.log(a / b, 2) for a, b in pairwise(errors)]
    assert slopes[-1] == pytest.approx(order, abs=0.15), (errors, slopes)
    matrix, shift = affine(model, solver, even_grid(path, 320))
    alpha, sigma = (a.item() for a in path(torch.ones(1, dtype=torch.float64)))
    marginal = alpha**2 * COVARIANCE + sigma**2 * torch.eye(2)
    tolerance = 5 * errors[-1]
    torch.testing.assert_close(matrix @ (alpha * MEAN) + shift, MEAN, rtol=0, atol=tolerance)
    torch.testing.assert_close(matrix @ marginal @ matrix.T, COVARIANCE, rtol=0, atol=tolerance)
    assert tolerance < (0.1 if order == 1 else 2e-3)


def test_heuns_last_step_is_eulers_for_the_rows_that_end_there():
    model = GaussianData(LinearBetas(), MEAN, COVARIANCE)
    x, t = noise(3).normal(2).double(), torch.tensor([0.1, 0.5, 0.1]).double()
    s = torch.tensor([0.0, 0.3, 0.0]).double()
    together, _ = Heun().step(model, x, t, s, None, noise(3), ())
    euler, _ = Euler().step(model, x, t, s, None, noise(3), ())
    alone, _ = Heun().step(model, x[1:2], t[1:2], s[1:2], None, noise(1), ())
    torch.testing.assert_close(together[[0, 2]], euler[[0, 2]])
    torch.testing.assert_close(together[1:2], alone)
    assert (together[1] - euler[1]).abs().max() > 1e-3


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_euler_in_straight_coordinates_takes_ddims_steps(path):
    model = GaussianData(path, MEAN, COVARIANCE)
    for ours, theirs in zip(affine(model, Euler(), time_grid(7)), affine(model, DDIM(), time_grid(7)), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_euler_on_the_straight_path_is_plain_euler():
    model = GaussianData(Straight(), MEAN, COVARIANCE)
    x = torch.tensor([[0.3, -2.0]], dtype=torch.float64)
    t, s = torch.tensor([0.7], dtype=torch.float64), torch.tensor([0.6], dtype=torch.float64)
    velocity = (x - model.denoise(x, t).mean) / 0.7
    ours, _ = Euler().step(model, x, t, s, None, noise(), ())
    torch.testing.assert_close(ours, x - 0.1 * velocity)


@pytest.mark.parametrize("path", PATHS, ids=IDS)
@pytest.mark.parametrize(("solver", "tolerance"), [(DDIM(), 2e-2), (Heun(), 1e-3)], ids=["ddim", "heun"])
def test_inversion_noise_to_data_to_noise(path, solver, tolerance):
    model = GaussianData(path, MEAN, COVARIANCE)
    x_1 = noise(64).normal(2).double()
    times = even_grid(path, 400)
    x_0 = integrate(model, solver, x_1, times, noise(64))
    back = integrate(model, solver, x_0, times[::-1], noise(64))
    assert (back - x_1).abs().max() < tolerance
    assert (x_0 - x_1).abs().max() > 0.5


def chain_moments(model: GaussianData, solver, times: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact mean and covariance of the sampler's output, propagated step by step from N(0, I) at t = 1."""
    mean, covariance = torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)

    class Draw:
        ids = torch.arange(5)

        def normal(self, *shape: int) -> torch.Tensor:  # rows 3 and 4 get a unit of noise, the others none
            return torch.cat([torch.zeros(3, 2), torch.eye(2)])

    for t, s in pairwise(times):
        rows = torch.cat([torch.zeros(1, 2), torch.eye(2), torch.zeros(2, 2)]).double()
        ends = integrate(model, solver, rows, [t, s], Draw())
        matrix, spread = (ends[1:3] - ends[0]).T, (ends[3:] - ends[0]).T
        mean = matrix @ mean + ends[0]
        covariance = matrix @ covariance @ matrix.T + spread @ spread.T
    return mean, covariance


@pytest.mark.parametrize("path", PATHS, ids=IDS)
@pytest.mark.parametrize(
    "solver", [Ancestral(), Ancestral("posterior"), DDIM(eta=1.0), DDIM(eta=0.5)], ids=["beta", "posterior", "1", "½"]
)
def test_samplers_with_noise_hit_mean_and_covariance(path, solver):
    model = GaussianData(path, MEAN, COVARIANCE)
    for steps, tolerance in ((1000, 0.012), (100, 0.1)):
        mean, covariance = chain_moments(model, solver, time_grid(steps, 1000))
        torch.testing.assert_close(mean, MEAN, rtol=0, atol=tolerance)
        torch.testing.assert_close(covariance, COVARIANCE, rtol=0, atol=tolerance)


def test_ddpms_step_is_algorithm_2():
    """One step of the paper's line 4, written out with betas, and no noise in the last."""
    path = LinearBetas()
    model = GaussianData(path, MEAN, COVARIANCE)
    x_t = torch.tensor([[0.3, -1.2]], dtype=torch.float64)
    alpha_bar = torch.cumprod(1 - path.betas, 0)
    for i in (1, 2, 400, 1000):
        t, s = (torch.tensor([k / 1000], dtype=torch.float64) for k in (i, i - 1))
        beta, bar = path.betas[i - 1], alpha_bar[i - 1]
        eps = (x_t - bar.sqrt() * model.denoise(x_t, t).mean) / (1 - bar).sqrt()
        z = noise().normal(2).double() if i > 1 else 0
        expected = (x_t - beta / (1 - bar).sqrt() * eps) / (1 - beta).sqrt() + beta.sqrt() * z
        ours, _ = Ancestral().step(model, x_t, t, s, None, noise(), ())
        torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-8)


def test_samples_do_not_depend_on_the_batch_split():
    model = GaussianData(LinearBetas(), MEAN.float(), COVARIANCE.float())
    whole = noise(6, seed=3)
    x = integrate(model, Ancestral(), whole.normal(2), time_grid(20, 1000), whole)
    for rows in (range(0, 1), range(1, 4), range(4, 6)):
        part = KeyedNoise(3, torch.tensor(list(rows)), "test")
        alone = integrate(model, Ancestral(), part.normal(2), time_grid(20, 1000), part)
        torch.testing.assert_close(alone, x[rows.start : rows.stop], rtol=1e-5, atol=1e-5)


@dataclass
class ByLabel:
    """A denoiser whose estimate tells the label: 10 (label + 1) + x_t, and which counts its calls and their rows."""

    path = Straight()
    calls = 0
    rows = 0

    def denoise(self, x_t, t, condition=None):
        self.calls += 1
        self.rows += len(x_t)
        label = condition.label if condition is not None else torch.full((len(x_t),), -1)
        return Dirac(x_t + 10.0 * (label[:, None] + 1))


def test_classifier_free_guidance_extrapolates_in_one_pass():
    x_t, t = noise(3).normal(2), torch.full((3,), 0.5)
    condition = Condition(label=torch.tensor([0, 4, -1]))
    gain = torch.tensor([[10.0], [50.0], [0.0]])
    for guidance in (0.0, 1.0, 2.5):
        model = ByLabel()
        mean = ClassifierFree(model, guidance).denoise(x_t, t, condition).mean
        torch.testing.assert_close(mean, x_t + guidance * gain)
        assert model.calls == 1
        assert model.rows == (6 if guidance == 2.5 else 3)
    model = ByLabel()
    torch.testing.assert_close(ClassifierFree(model, 3.0).denoise(x_t, t, None).mean, x_t)


def test_guidance_keeps_the_conditional_models_variance():
    class Learned(ByLabel):
        def denoise(self, x_t, t, condition=None):
            mean = super().denoise(x_t, t, condition).mean
            return LearnedStep(mean, mean / 100)

    x_t, t, condition = noise(3).normal(2), torch.full((3,), 0.5), Condition(label=torch.tensor([0, 4, -1]))
    share = ClassifierFree(Learned(), 2.5).denoise(x_t, t, condition).step_variance
    torch.testing.assert_close(share, Learned().denoise(x_t, t, condition).step_variance)


def test_labels_are_dropped_as_often_as_asked_and_by_row():
    label = torch.arange(20000) % 10
    dropped = drop_labels(Condition(label=label), noise(20000), 0.1).label
    assert (dropped == -1).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert bool(((dropped == label) | (dropped == -1)).all())
    assert torch.equal(drop_labels(Condition(label=label), noise(20000), 0.0).label, label)
    tail = KeyedNoise(0, torch.arange(15000, 20000), "test")
    assert torch.equal(drop_labels(Condition(label=label[15000:]), tail, 0.1).label, dropped[15000:])


def test_clipping_keeps_estimates_in_range():
    mean = (
        Clip(GaussianData(Straight(), MEAN, 9 * COVARIANCE))
        .denoise(5 * noise(50).normal(2).double(), torch.ones(50).double() * 0.3)
        .mean
    )
    assert mean.abs().max() == 1


def test_the_loop_reports_films_and_stops_early():
    model, x = GaussianData(Straight(), MEAN, COVARIANCE), torch.ones(1, 2).double()
    film = Film(every=2)
    end = integrate(model, Euler(), x, time_grid(5), noise(), watch=film)
    assert [(f.step, f.steps, round(f.t, 9)) for f in film.frames] == [(2, 5, 0.6), (4, 5, 0.2), (5, 5, 0.0)]
    assert torch.equal(film.frames[-1].x_t, end)

    def stop(frame: Frame) -> bool:
        return frame.step == 2

    assert torch.equal(integrate(model, Euler(), x, time_grid(5), noise(), watch=stop), film.frames[0].x_t)


def test_solvers_are_found_by_file_name():
    assert {"ddim", "ddpm", "euler", "heun"} <= set(solvers())
    assert find_solver("heun") == Heun()
    with pytest.raises(RequestError, match="did you mean 'euler'"):
        find_solver("eular")
