"""Solvers chosen by name and options, time grids, and the exact denoiser of a mixture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch

from reverie.core.errors import RequestError
from reverie.core.recipe import parse_change, put
from reverie.core.strict import Strict
from reverie.maths.paths import LinearBetas, Straight
from reverie.maths.posteriors import GaussianData, GaussianMixtureData
from reverie.maths.times import grid, karras_grid, log_snr, log_snr_grid, time_grid, time_of
from reverie.models.diffusion import consistency, palette, reflow
from reverie.samplers.ddim import DDIM
from reverie.samplers.edm import EDM
from reverie.samplers.euler import Euler
from reverie.samplers.heun import Heun
from reverie.samplers.solver import SolverChoice, find_solver, solvers, written
from reverie.samplers.unipc import UniPC


class Sampling(Strict):
    """As a model's."""

    steps: int = 10
    solver: SolverChoice = Euler()


@dataclass(frozen=True)
class Exploding:
    """alpha = 1, sigma from 0.002 to 80 by ratios."""

    def __call__(self, t):
        return torch.ones_like(t), 0.002 * 40000**t


def asked(*changes: str) -> Sampling:
    """As ``reverie sample`` reads its arguments."""
    body = Sampling().model_dump()
    for path, value in map(parse_change, changes):
        put(body, path, value)
    return Sampling.read(body, "sampling")


def test_a_solver_is_chosen_by_name_or_by_name_and_options():
    assert find_solver("edm") == EDM()
    assert find_solver({"name": "edm", "churn": 10, "low": 0.01}) == EDM(churn=10, low=0.01)
    assert find_solver(DDIM(0.5)) == DDIM(eta=0.5)
    assert asked().solver == Euler()
    assert asked("solver=heun").solver == Heun()
    assert asked("solver={name: unipc, order: 3}").solver == UniPC(order=3)
    assert asked("solver=unipc", "solver.order=3", "steps=5") == Sampling(steps=5, solver=UniPC(order=3))


def test_what_is_written_is_read_back():
    for name in solvers():
        solver = find_solver(name)
        assert find_solver(written(solver)) == solver
    chosen = Sampling(solver=EDM(churn=7))
    assert chosen.model_dump()["solver"]["churn"] == 7
    assert Sampling.read(chosen.model_dump(mode="json"), "") == chosen
    assert Sampling().model_dump(mode="json") == {"steps": 10, "solver": "euler"}


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("eular", "no solver 'eular'; did you mean 'euler'"),
        ({"name": "edm", "chrun": 4}, "unknown key 'solver.chrun'; did you mean 'churn'"),
        ({"name": "ddim", "eta": True}, "solver.eta: write a number, not true"),
        ({"name": "euler", "eta": 1}, "unknown key 'solver.eta'; there are none"),
        ({"name": "ddim", "eta": 2}, "solver.eta = 2: Input should be less than or equal to 1"),
        ({"name": "unipc", "order": "two"}, "solver.order = 'two'"),
        ({"churn": 4}, "write a name"),
        (3, "write a name"),
    ],
    ids=str,
)
def test_wrong_choices_are_named(choice, message):
    with pytest.raises(RequestError, match=message):
        find_solver(choice)
    with pytest.raises(RequestError, match=message):
        Sampling.read({"solver": choice}, "sampling")


PATHS = {"linear": LinearBetas(), "straight": Straight(), "exploding": Exploding()}
paths = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)


@paths
def test_times_are_found_from_log_snrs(path):
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 1e-6)):
        t = torch.tensor([0.001, 0.0137, 0.3, 0.5, 0.77, 0.999], dtype=dtype)
        torch.testing.assert_close(time_of(path, log_snr(path, t)), t, rtol=tolerance, atol=tolerance)
        ends = time_of(path, torch.tensor([math.inf, 100.0, -100.0, -math.inf], dtype=dtype))
        assert ends[:2].tolist() == pytest.approx([0, 0], abs=1e-6)
        assert ends[2:].tolist() == pytest.approx([1, 1], abs=1e-12)


@paths
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 200])
def test_grids_fall_from_1_to_0(path, steps):
    for kind in ("even", "log-snr", "karras"):
        found = grid(kind, steps, path)
        assert len(found) == steps + 1
        assert (found[0], found[-1]) == (1.0, 0.0)
        assert all(t > s for t, s in pairwise(found)), kind


def test_log_snr_grids_are_even_between_the_bounds():
    def gaps(path, found: list[float]) -> torch.Tensor:
        return log_snr(path, torch.tensor(found, dtype=torch.float64)).diff()

    whole = gaps(Exploding(), log_snr_grid(10, Exploding()))
    torch.testing.assert_close(whole, torch.full((10,), math.log(40000) / 10, dtype=torch.float64))
    # DDPM's has no noise at t = 0: the last step goes there from sigma / alpha = 0.002.
    open_below = gaps(LinearBetas(), log_snr_grid(10, LinearBetas()))
    torch.testing.assert_close(open_below[:9], open_below[:1].expand(9))
    assert math.exp(-log_snr(LinearBetas(), torch.tensor([log_snr_grid(10, LinearBetas())[-2]]))) == pytest.approx(
        0.002, rel=1e-3
    )
    # The straight path has no signal at t = 1 either: the first step goes to sigma / alpha = 160.
    straight = log_snr_grid(10, Straight())
    assert straight[1] == pytest.approx(160 / 161)
    torch.testing.assert_close(gaps(Straight(), straight[1:-1]), gaps(Straight(), straight[1:3]).expand(8))


def test_karras_grids_are_equation_5():
    found = torch.tensor(karras_grid(18, Exploding()), dtype=torch.float64)
    sigma = Exploding()(found)[1]
    i = torch.arange(19, dtype=torch.float64) / 18
    expected = (80 ** (1 / 7) + i * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    torch.testing.assert_close(sigma, expected, rtol=1e-9, atol=1e-12)


def test_grids_keep_out_of_the_times_that_a_network_never_saw():
    for kind in ("log-snr", "karras"):
        assert grid(kind, 20, LinearBetas(), ticks=1000)[-2] == pytest.approx(0.001)
    assert grid("even", 7, LinearBetas(), ticks=1000) == time_grid(7, 1000)


def test_wrong_steps_are_named():
    for kind in ("even", "log-snr", "karras"):
        with pytest.raises(RequestError, match="steps = 0: samples need at least 1"):
            grid(kind, 0, Straight())
        with pytest.raises(RequestError, match="steps = 1001 is more than this model's T = 1000"):
            grid(kind, 1001, LinearBetas(), ticks=1000)


@paths
def test_a_mixtures_denoiser_is_its_scores(path):
    """Tweedie's formula with autograd through log p(x_t); and one component is GaussianData."""
    means = torch.tensor([[0.6, -0.4], [-1.0, 0.3], [0.1, 1.2]], dtype=torch.float64)
    covariances = torch.tensor([[[0.5, 0.3], [0.3, 0.4]], [[0.1, 0.0], [0.0, 0.2]], [[0.3, -0.1], [-0.1, 0.1]]])
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    model = GaussianMixtureData(path, weights, means, covariances.double())
    x = torch.tensor([[0.1, 0.2], [-0.8, 0.9], [2.0, -1.0]], dtype=torch.float64, requires_grad=True)
    t = torch.tensor([0.1, 0.4, 0.7], dtype=torch.float64)
    alpha, sigma = (a[:, None] for a in path(t))
    density = torch.zeros(3, dtype=torch.float64)
    for weight, mean, covariance in zip(weights, means, covariances.double(), strict=True):
        marginal = alpha[..., None] ** 2 * covariance + sigma[..., None] ** 2 * torch.eye(2)
        density = density + weight * torch.distributions.MultivariateNormal(alpha * mean, marginal).log_prob(x).exp()
    (score,) = torch.autograd.grad(density.log().sum(), x)
    torch.testing.assert_close(model.denoise(x, t).mean, (x + sigma**2 * score) / alpha)
    one = GaussianMixtureData(path, torch.ones(1).double(), means[:1], covariances[:1].double())
    alone = GaussianData(path, means[0], covariances[0].double())
    torch.testing.assert_close(one.denoise(x, t).mean, alone.denoise(x, t).mean)
    torch.testing.assert_close(one.denoise(x, t).covariance, alone.denoise(x, t).covariance)


def test_a_mixtures_posterior_has_its_covariance():
    """Cov[x_0 | x_t] = sigma^2 / alpha dE[x_0 | x_t] / dx_t."""
    means = torch.tensor([[0.6, -0.4], [-1.0, 0.3]], dtype=torch.float64)
    covariances = torch.tensor([[[0.5, 0.3], [0.3, 0.4]], [[0.1, 0.0], [0.0, 0.2]]], dtype=torch.float64)
    model = GaussianMixtureData(Straight(), torch.tensor([0.4, 0.6], dtype=torch.float64), means, covariances)
    x, t = torch.tensor([[0.0, 0.1]], dtype=torch.float64), torch.tensor([0.4], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x_t: model.denoise(x_t, t).mean[0], x)[:, 0]
    torch.testing.assert_close(model.denoise(x, t).covariance[0], 0.4**2 / 0.6 * jacobian)


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (palette.Config, {"sampling": {"solver": "heum"}}),
        (reflow.Config, {"sampling": {"solver": "heum"}}),
        (consistency.Config, {"solver": "heum"}),
    ],
)
def test_a_misspelt_solver_is_told_when_settings_are_read(config, settings):
    with pytest.raises(RequestError, match="no solver 'heum'; did you mean 'heun'"):
        config.read(settings, "model")


def test_a_student_follows_its_teacher_without_noise():
    with pytest.raises(RequestError, match=r"solver = .*ddpm.* goes towards data only"):
        consistency.Config.read({"solver": "ddpm"}, "model")
    assert consistency.Config.read({"solver": "euler"}, "model").solver == Euler()
