"""Paths, predictions, posteriors and times against what can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from reverie.core.errors import RequestError
from reverie.core.space import Space
from reverie.maths import predictions
from reverie.maths.discretised_gaussian import discretised_gaussian_log_prob
from reverie.maths.path_choice import find_path
from reverie.maths.paths import LinearBetas, Straight, per_row
from reverie.maths.posteriors import GaussianData, backward
from reverie.maths.times import even, logit_normal, time_grid
from reverie.models.diffusion.ddpm import DDPM
from reverie.models.diffusion.ddpm import Config as DDPMConfig
from reverie.nn.schedule import LearnedSchedule

PATHS = [LinearBetas(), Straight()]


def times(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_alpha_bar_is_the_cumulative_product_of_the_papers_betas():
    betas = 1e-4 + (0.02 - 1e-4) * np.arange(1000) / 999
    alpha_bar = np.cumprod(1 - betas)
    alpha, sigma = LinearBetas()(torch.arange(1, 1001, dtype=torch.float64) / 1000)
    np.testing.assert_allclose(alpha.numpy() ** 2, alpha_bar, rtol=1e-11)
    np.testing.assert_allclose(sigma.numpy() ** 2, 1 - alpha_bar, rtol=1e-11)
    # By hand: 1 - 0.0001, and that times 1 - 0.0001 - 0.0199 / 999.
    assert alpha[0].item() ** 2 == pytest.approx(0.9999, abs=1e-15)
    assert alpha[1].item() ** 2 == pytest.approx(0.9999 * (1 - 0.0001 - 0.0199 / 999), abs=1e-15)
    # Known of this schedule: exp(-10.0594…), nearly no signal left.
    assert alpha[-1].item() ** 2 == pytest.approx(4.0358e-5, rel=1e-4)


def test_float32_times_lose_nothing_that_matters():
    t = torch.arange(0, 1001) / 1000
    for path in PATHS:
        for short, long in zip(path(t), path(t.double()), strict=True):
            torch.testing.assert_close(short.double(), long, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("path", PATHS, ids=["linear", "straight"])
def test_a_path_leads_from_data_to_noise(path):
    t = torch.linspace(0, 1, 501, dtype=torch.float64)
    alpha, sigma = path(t)
    assert alpha[0] == 1
    assert sigma[0] == 0
    assert alpha[-1] < 0.01
    assert sigma[-1] > 0.99
    assert bool((torch.log(alpha[1:-1] / sigma[1:-1]).diff() < 0).all())


def test_backward_on_the_linear_path_is_equation_7():
    """q(x_{i-1} | x_i, x_0) of the paper, from betas alone, and by Bayes' rule from the two Gaussians it is made of."""
    path = LinearBetas()
    alpha_bar = np.concatenate([[1.0], np.cumprod(1 - path.betas.numpy())])
    for i in (1, 2, 100, 500, 1000):
        beta, now, before = path.betas[i - 1].item(), alpha_bar[i], alpha_bar[i - 1]
        q = backward(path, times(i / 1000), times((i - 1) / 1000))
        assert q.fresh.item() == pytest.approx(beta, rel=1e-8)
        assert q.b.item() == pytest.approx(math.sqrt(before) * beta / (1 - now), rel=1e-8)
        assert q.a.item() == pytest.approx(math.sqrt(1 - beta) * (1 - before) / (1 - now), rel=1e-8)
        assert q.variance.item() == pytest.approx((1 - before) / (1 - now) * beta, rel=1e-8)
        if i > 1:
            # Bayes: N(x_i; sqrt(1 - beta) x_{i-1}, beta) times N(x_{i-1}; sqrt(before) x_0, 1 - before), as precisions.
            precision = (1 - beta) / beta + 1 / (1 - before)
            assert q.variance.item() == pytest.approx(1 / precision, rel=1e-8)
            assert q.b.item() == pytest.approx(math.sqrt(before) / (1 - before) / precision, rel=1e-8)
            assert q.a.item() == pytest.approx(math.sqrt(1 - beta) / beta / precision, rel=1e-8)
            # The mean in terms of eps (Equation 11 without the network).
            x_0, eps = 0.7, -1.3
            x_t = math.sqrt(now) * x_0 + math.sqrt(1 - now) * eps
            mean = (x_t - beta / math.sqrt(1 - now) * eps) / math.sqrt(1 - beta)
            assert q.a.item() * x_t + q.b.item() * x_0 == pytest.approx(mean, rel=1e-8)


@pytest.mark.parametrize("path", PATHS, ids=["linear", "straight"])
@pytest.mark.parametrize(("t", "s"), [(1.0, 0.9), (0.63, 0.6), (0.5, 0.02), (0.02, 0.0)])
def test_backward_keeps_the_marginals(path, t, s):
    """x_s drawn from q(x_s | x_t, x_0) has the path's own mean and variance given x_0; no noise, no noise after."""
    q = backward(path, times(t), times(s))
    (alpha_t, sigma_t), (alpha_s, sigma_s) = path(times(t)), path(times(s))
    torch.testing.assert_close(q.a * alpha_t + q.b, alpha_s, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close((q.a * sigma_t) ** 2 + q.variance, sigma_s**2, rtol=1e-9, atol=1e-9)


def test_backward_is_finite_in_float32_at_both_ends():
    for path in PATHS:
        for t, s in ((1.0, 0.999), (0.001, 0.0), (1.0, 0.0)):
            exact = backward(path, times(t), times(s))
            for short, long in zip(backward(path, torch.tensor([t]), torch.tensor([s])), exact, strict=True):
                torch.testing.assert_close(short.double(), long, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("path", PATHS, ids=["linear", "straight"])
@pytest.mark.parametrize("given", ["eps", "x0", "v", "velocity"])
def test_any_prediction_gives_any_other(path, given):
    generator = torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(2, 6, 3, dtype=torch.float64, generator=generator)
    alpha, sigma = (per_row(a, x_0) for a in path(times(0.01, 0.2, 0.4, 0.6, 0.8, 0.95)))
    x_t = alpha * x_0 + sigma * eps
    output = predictions.target(given, x_0, eps, alpha, sigma)
    torch.testing.assert_close(predictions.clean(given, output, x_t, alpha, sigma), x_0)
    torch.testing.assert_close(predictions.noise(x_0, x_t, alpha, sigma), eps)
    known = {"eps": eps, "x0": x_0, "v": alpha * eps - sigma * x_0, "velocity": eps - x_0}
    for wanted, value in known.items():
        torch.testing.assert_close(predictions.convert(given, wanted, output, x_t, alpha, sigma), value)


def test_velocity_is_the_slope_of_the_straight_path():
    x_0, eps = times(0.3), times(-1.2)
    (slope,) = torch.autograd.functional.jacobian(lambda t: Straight()(t)[0] * x_0 + Straight()(t)[1] * eps, times(0.4))
    output = predictions.target("velocity", x_0, eps, times(0.6), times(0.4))
    torch.testing.assert_close(slope, output)


@pytest.mark.parametrize("path", PATHS, ids=["linear", "straight"])
def test_the_gaussian_denoiser_is_bayes_rule_on_a_grid(path):
    """In one dimension, against a sum over a fine grid of x_0."""
    data = GaussianData(path, times(0.5), times(0.3).view(1, 1))
    grid = torch.linspace(-6, 7, 20001, dtype=torch.float64)
    prior = stats.norm(0.5, math.sqrt(0.3)).logpdf(grid)
    for t in (0.05, 0.5, 0.9):
        alpha, sigma = (a.item() for a in path(times(t)))
        posterior = data.denoise(times(1.1).view(1, 1), times(t))
        weights = np.exp(prior + stats.norm(alpha * grid, sigma).logpdf(1.1))
        mean = (weights * grid.numpy()).sum() / weights.sum()
        variance = (weights * (grid.numpy() - mean) ** 2).sum() / weights.sum()
        assert posterior.mean.item() == pytest.approx(mean, rel=1e-8)
        assert posterior.covariance.item() == pytest.approx(variance, rel=1e-8)


def test_discretised_gaussian_sums_to_one_and_is_the_difference_of_cdfs():
    levels = torch.linspace(-1, 1, 256, dtype=torch.float64)
    for mean, sigma in ((-1.2, 0.05), (0.1, 0.01), (0.999, 0.3), (0.0, 3.0)):
        log_prob = discretised_gaussian_log_prob(levels, times(mean), times(sigma), 256)
        assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-12)
    for x, mean, sigma in ((levels[100], 0.0, 0.1), (levels[200], 0.3, 0.05), (levels[0], -0.9, 0.1)):
        lower = -math.inf if x == -1 else x.item() - 1 / 255
        exact = stats.norm.logsf(lower, mean, sigma) + np.log1p(
            -np.exp(stats.norm.logsf(x.item() + 1 / 255, mean, sigma) - stats.norm.logsf(lower, mean, sigma))
        )
        value = discretised_gaussian_log_prob(x, times(mean), times(sigma), 256).item()
        assert value == pytest.approx(exact, rel=1e-9)


def test_discretised_gaussian_stays_finite_far_away():
    levels = torch.tensor([-1.0, 0.0, 1.0])
    for mean in (-1.5, 1.5):
        log_prob = discretised_gaussian_log_prob(levels, torch.tensor(mean), torch.tensor(0.01), 256)
        assert bool(torch.isfinite(log_prob).all())
        # The mass of the bin's nearest edge, to the tail's leading order.
        distance = (1.5 - 1 / 255) / 0.01
        assert log_prob[1].item() == pytest.approx(-(distance**2) / 2 - math.log(distance * 2.5066), rel=1e-4)


def test_even_times_cover_every_batch_and_logit_normal_has_its_quantiles():
    for first in (0, 12345, 10**9):
        u = even(torch.arange(first, first + 128)).double().sort().values
        # Independent draws of 128 reach a discrepancy of 0.1 often; the golden ratio stays under 3 / 128.
        assert (u - (torch.arange(128) + 0.5) / 128).abs().max() < 3 / 128
        assert u[0] > 0
        assert u[-1] < 1
    golden = (math.sqrt(5) - 1) / 2
    assert even(torch.tensor([5])).item() == pytest.approx(5 * golden % 1, abs=1e-6)
    t = logit_normal(torch.tensor([0.0228, 0.5, 0.8413]), location=0.2, scale=0.7)
    torch.testing.assert_close(torch.logit(t), torch.tensor([0.2 - 2 * 0.7, 0.2, 0.2 + 0.7]), rtol=1e-3, atol=1e-3)


def test_time_grids():
    assert time_grid(4) == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert time_grid(1000, 1000) == [i / 1000 for i in range(1000, -1, -1)]
    assert len(time_grid(100_000)) == 100_001
    with pytest.raises(RequestError, match="steps = 100001: take 100,000 at most"):
        time_grid(100_001)
    assert time_grid(3, 10) == [1.0, 0.7, 0.3, 0.0]


@pytest.mark.parametrize("betas", [(1e-4, 1.5), (0.0, 0.02), (0.02, 1e-4), (-0.1, 0.1), (0.5, 1.0)])
def test_betas_rise_within_0_and_1(betas):
    with pytest.raises(RequestError, match="they must rise from the first to the last, and lie between 0 and 1"):
        LinearBetas(10, *betas)
    with pytest.raises(RequestError, match="betas go from"):
        DDPM(DDPMConfig(betas=betas), Space((2,)), {})
    assert LinearBetas(10, 0.1, 0.1)(times(1.0))[0].item() ** 2 == pytest.approx(0.9**10)


@pytest.mark.parametrize("name", ["variance-exploding", "noise-levels", "edm", "linear-log-snr", "learned"])
def test_noise_grows_from_one_end_of_a_path_to_the_other(name):
    low, high = ("first", "last") if name in ("linear-log-snr", "learned") else ("smallest", "largest")
    for least, most in ((3.0, 2.0), (2.0, 2.0)):
        with pytest.raises(RequestError, match=f"path.{low} = {least:g} must be less than path.{high} = 2"):
            find_path({"name": name, low: least, high: most})
    path = find_path({"name": name, low: 2.0, high: 3.0})
    alpha, sigma = path(torch.linspace(0, 1, 20, dtype=torch.float64))
    assert bool(((sigma / alpha).diff() > 0).all())
    with pytest.raises(RequestError, match="gamma goes from 3 to 2: it must rise"):
        LearnedSchedule(3.0, 2.0)
