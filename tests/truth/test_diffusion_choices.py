"""Paths, predictions, weights and couplings against their papers' equations, closed forms and autograd."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from reverie.core.errors import RequestError
from reverie.core.noise import KeyedNoise
from reverie.maths import predictions
from reverie.maths.interpolants import Interpolant
from reverie.maths.path_choice import find_path, written
from reverie.maths.paths import (
    Cosine,
    CosineBetas,
    Edm,
    LinearBetas,
    LinearLogSnr,
    NoiseLevels,
    Straight,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
    per_row,
    prior_scale,
    ticks,
)
from reverie.maths.posteriors import GaussianData, backward
from reverie.maths.times import even, log_snr, time_of
from reverie.maths.training_times import Times
from reverie.maths.transport import optimal_pairs
from reverie.maths.weights import c_noise, log_normal, weight
from reverie.samplers.conversion import OnPath

PATHS = [
    Straight(),
    LinearBetas(),
    CosineBetas(),
    Cosine(),
    Cosine(0.0),
    VariancePreserving(),
    SubVariancePreserving(),
    VarianceExploding(),
    NoiseLevels(),
    Edm(),
    Interpolant("linear"),
    Interpolant("trigonometric", 2.0),
]
SIX = ("eps", "x0", "v", "velocity", "score", "edm")
each_path = pytest.mark.parametrize("path", [*PATHS, LinearLogSnr()], ids=lambda path: type(path).__name__)


def t64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def rates(path, t):
    """alpha, sigma^2 and their derivatives by autograd."""
    t = t.clone().requires_grad_()
    alpha, sigma = path(t)
    slopes = [torch.autograd.grad((f + 0 * t).sum(), t, retain_graph=True)[0] for f in (alpha, sigma**2)]
    return alpha.detach(), sigma.detach() ** 2, *slopes


def test_the_three_sdes_paths_solve_their_moment_equations():
    """d alpha = f alpha dt and d sigma^2 = (2 f sigma^2 + g^2) dt with the drift f and diffusion g of each SDE."""
    t = torch.linspace(0.05, 1, 9, dtype=torch.float64)
    beta = 0.1 + 19.9 * t
    whole = 0.1 * t + 19.9 / 2 * t**2
    growth = 0.01**2 * 5000 ** (2 * t) * 2 * math.log(5000)
    for path, f, g2 in (
        (VariancePreserving(), -beta / 2, beta),
        (SubVariancePreserving(), -beta / 2, beta * (1 - torch.exp(-2 * whole))),
        (VarianceExploding(), 0 * t, growth),
    ):
        alpha, variance, d_alpha, d_variance = rates(path, t)
        torch.testing.assert_close(d_alpha, f * alpha)
        torch.testing.assert_close(d_variance, 2 * f * variance + g2)


def test_ddpms_path_is_the_vp_sde_with_ever_more_steps():
    """beta_i = beta(i / T) / T, as the SDE paper has it: with T = 20,000 steps the difference is of 1e-3."""
    steps = 20_000
    chain, sde = LinearBetas(steps, 0.1 / steps, 20 / steps), VariancePreserving()
    t = t64(0.1, 0.3, 0.5, 1.0)
    for a, b in zip(chain(t), sde(t), strict=True):
        torch.testing.assert_close(a, b, rtol=6e-3, atol=0)


def test_cosine_paths_by_hand():
    f = [math.cos((i / 10 + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(11)]
    betas = [min(1 - b / a, 0.999) for a, b in itertools.pairwise(f)]
    alpha, sigma = CosineBetas(steps=10)(torch.arange(1, 11).double() / 10)
    np.testing.assert_allclose(alpha.numpy() ** 2, np.cumprod(1 - np.array(betas)), rtol=1e-10)
    np.testing.assert_allclose(sigma.numpy() ** 2, 1 - np.cumprod(1 - np.array(betas)), rtol=1e-10)
    assert betas[-1] == 0.999
    alpha, sigma = Cosine()(t64(0.3, 0.9))
    torch.testing.assert_close(alpha**2, t64(*(f[i] / f[0] for i in (3, 9))))
    torch.testing.assert_close(alpha**2 + sigma**2, t64(1, 1))
    alpha, sigma = Cosine(0.0)(t64(1 / 3, 1.0))
    torch.testing.assert_close(alpha, t64(0.75**0.5, 0.0))
    torch.testing.assert_close(sigma, t64(0.5, 1.0))


@pytest.mark.parametrize(("kind", "latent"), [("linear", 1.0), ("linear", 0.5), ("trigonometric", 2.0)])
def test_a_two_sided_interpolant_with_latent_noise_is_this_path(kind, latent):
    """Its velocity E[I' + gamma' z | x_t], from the Gaussian of all three, is the slope of the path's own flow."""
    path, t = Interpolant(kind, latent), t64(0.05, 0.3, 0.6, 0.95)
    if kind == "linear":
        coefficients, slopes = (1 - t, t), (-torch.ones_like(t), torch.ones_like(t))
    else:
        turn = math.pi / 2
        coefficients = (torch.cos(turn * t), torch.sin(turn * t))
        slopes = (-turn * torch.sin(turn * t), turn * torch.cos(turn * t))
    gamma = torch.sqrt(latent * t * (1 - t))
    weights = torch.stack([*coefficients, gamma])  # of x_0, x_1 and z
    slope = torch.stack([*slopes, latent * (1 - 2 * t) / (2 * gamma)])
    mean, variance, x = 0.7, t64(0.3, 1, 1)[:, None], t64(0.4, -1.0, 0.2, 1.5)
    spread = (weights**2 * variance).sum(0)
    means = t64(mean, 0, 0)[:, None] + weights * variance / spread * (x - weights[0] * mean)  # given x_t, each
    velocity = (slope * means).sum(0)
    data = GaussianData(path, t64(mean), t64(0.3)[:, None])
    x_0 = data.denoise(x[:, None], t).mean[:, 0]
    torch.testing.assert_close(x_0, means[0])
    alpha, sigma = path(t)
    by_t = [torch.autograd.functional.jvp(lambda time, k=k: path(time)[k], t, torch.ones_like(t))[1] for k in (0, 1)]
    torch.testing.assert_close(by_t[0] * x_0 + by_t[1] * (x - alpha * x_0) / sigma, velocity)
    assert not torch.allclose(sigma, coefficients[1])
    plain = Straight() if kind == "linear" else Cosine(0.0)
    torch.testing.assert_close(Interpolant(kind, 0.0)(t), plain(t))


def test_exploding_paths_by_hand():
    """EDM's Equation 5 at even times, moved by sigma_min; NCSN's geometric levels; VDM's logarithm."""
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    wanted = [(80 / 79.998) * ((low + i / 18 * (high - low)) ** 7 - 0.002) for i in range(19)]
    np.testing.assert_allclose(Edm()(torch.arange(19).double() / 18)[1].numpy(), wanted, rtol=1e-9, atol=1e-15)
    sigmas = NoiseLevels(10, 0.01, 1.0)(torch.arange(11).double() / 10)[1].numpy()
    np.testing.assert_allclose(sigmas, [0, *(10 ** (-2 + 2 * k / 9) for k in range(10))], rtol=1e-12)
    torch.testing.assert_close(-2 * log_snr(LinearLogSnr(-13.3, 5.0), t64(0, 0.5, 1)), t64(-13.3, -4.15, 5.0))


@each_path
def test_signal_to_noise_falls_and_has_an_inverse(path):
    t = torch.linspace(0.001, 0.999, 200, dtype=torch.float64)
    ratios = log_snr(path, t)
    assert bool((ratios.diff() < 0).all())
    torch.testing.assert_close(time_of(path, ratios), t, rtol=0, atol=1e-9)
    inside = time_of(path, log_snr(path, t.float()))
    torch.testing.assert_close(inside, t.float(), rtol=0, atol=2e-4)
    assert time_of(path, t64(math.inf, -math.inf)).tolist() == [0, 1]


@each_path
def test_paths_begin_with_the_data_and_steps_keep_their_marginals(path):
    alpha, sigma = path(t64(0.0))
    assert alpha.item() == pytest.approx(1, abs=1e-6)
    assert sigma.item() < 0.0013
    for t, s in ((1.0, 0.9), (0.5, 0.3), (0.02, 0.01)):
        q = backward(path, t64(t), t64(s))
        (alpha_t, sigma_t), (alpha_s, sigma_s) = path(t64(t)), path(t64(s))
        torch.testing.assert_close(q.a * alpha_t + q.b, alpha_s, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close((q.a * sigma_t) ** 2 + q.variance, sigma_s**2, rtol=1e-9, atol=1e-9)


def test_sampling_starts_from_what_rows_of_unit_variance_become():
    for path in (LinearBetas(), Cosine(), VariancePreserving(), Straight()):
        assert prior_scale(path) == pytest.approx(1, abs=1e-12)
    assert prior_scale(SubVariancePreserving()) == pytest.approx(1, abs=1e-4)
    assert prior_scale(Edm()) == pytest.approx(math.hypot(80, 1))


def test_paths_are_found_by_name():
    assert find_path({"name": "cosine-betas", "steps": 10}) == CosineBetas(10)
    assert written(Edm()) == {"name": "edm", "smallest": 0.002, "largest": 80.0, "rho": 7.0}
    assert all(find_path(written(path)) == path for path in PATHS)
    assert [ticks(path) for path in (NoiseLevels(7), Edm())] == [7, None]
    with pytest.raises(RequestError, match="did you mean 'straight'"):
        find_path("strait")
    with pytest.raises(RequestError, match=r"unknown key 'path\.step'"):
        find_path({"name": "linear-betas", "step": 10})
    with pytest.raises(RequestError, match=r"path\.steps = 0"):
        find_path({"name": "linear-betas", "steps": 0})


@each_path
@pytest.mark.parametrize("given", SIX)
def test_any_prediction_gives_any_other_and_the_slope_is_its_derivative(path, given):
    generator = torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(2, 5, 3, dtype=torch.float64, generator=generator)
    alpha, sigma = (per_row(a, x_0) for a in path(t64(0.1, 0.2, 0.4, 0.6, 0.9)))
    x_t = alpha * x_0 + sigma * eps
    output = predictions.target(given, x_0, eps, alpha, sigma)
    torch.testing.assert_close(predictions.clean(given, output, x_t, alpha, sigma), x_0)
    for wanted in SIX:
        value = predictions.convert(given, wanted, output, x_t, alpha, sigma)
        torch.testing.assert_close(value, predictions.target(wanted, x_0, eps, alpha, sigma))
    free = x_0.clone().requires_grad_()
    moved = predictions.target(given, free, (x_t - alpha * free) / sigma, alpha, sigma)
    (slope,) = torch.autograd.grad(moved.sum(), free)
    torch.testing.assert_close(predictions.slope(given, alpha, sigma).expand(5, 3), slope.abs())


def test_edm_preconditioning_is_table_1_and_gives_unit_variances():
    c = predictions.precondition(t64(1), t64(0.5), 0.5)
    assert [c.c_skip.item(), c.c_out.item(), c.c_in.item()] == pytest.approx([0.5, 0.125**0.5, 2**0.5])
    for path in (Edm(), VariancePreserving(), Straight()):
        alpha, sigma = path(t64(0.05, 0.4, 0.8, 1.0))
        c = predictions.precondition(alpha, sigma, 0.5)
        # x_t = alpha x_0 + sigma eps and F = (x_0 - c_skip x_t) / c_out, by coefficients of x_0 / sigma_d and eps.
        torch.testing.assert_close(c.c_in**2 * (alpha**2 / 4 + sigma**2), torch.ones_like(alpha))
        of_x_0, of_eps = 0.5 * (1 - c.c_skip * alpha) / c.c_out, c.c_skip * sigma / c.c_out
        torch.testing.assert_close(of_x_0**2 + of_eps**2, torch.ones_like(alpha))
    x_0, eps = torch.randn(2, 3, dtype=torch.float64)
    alpha, sigma = VariancePreserving()(t64(0.2, 0.4, 0.7))
    v = predictions.target("v", x_0, eps, alpha, sigma)
    torch.testing.assert_close(predictions.target("edm", x_0, eps, alpha, sigma, data_std=1.0), -v)


def test_weights_are_those_of_their_papers():
    alpha, sigma = t64(0.9, 0.6, 0.1), t64(0.19**0.5, 0.8, 0.99**0.5)
    snr = alpha**2 / sigma**2
    value = weight("min-snr", "eps", alpha, sigma)
    torch.testing.assert_close(value, torch.minimum(snr, t64(5.0)) / snr)  # Hang et al., for noise
    torch.testing.assert_close(weight("min-snr", "v", alpha, sigma), torch.minimum(snr, t64(5.0)) / (snr + 1))
    torch.testing.assert_close(weight("eps", "x0", alpha, sigma), snr)
    torch.testing.assert_close(weight("eps", "score", alpha, sigma), sigma**2)  # NCSN's lambda
    torch.testing.assert_close(weight("p2", "eps", alpha, sigma), 1 / (1 + snr))
    torch.testing.assert_close(weight("sigmoid", "eps", alpha, sigma), 1 / (1 + snr * math.e))
    torch.testing.assert_close(weight("bound", "eps", alpha, sigma, fall=t64(18.0)), t64(9, 9, 9))
    noise = t64(0.01, 0.5, 40.0)
    ones = torch.ones_like(noise)
    torch.testing.assert_close(weight("edm", "edm", ones, noise), ones)
    torch.testing.assert_close(weight("edm", "x0", ones, noise), (noise**2 + 0.25) / (noise * 0.5) ** 2)
    torch.testing.assert_close(weight("simple", "v", alpha, sigma), torch.ones_like(alpha))


def test_even_numbers_lie_within_0_and_1():
    """Where the fraction is next to 1, too: places of Fibonacci's numbers have it there, and next to 0."""
    u = even(torch.tensor([0, 14930352, 24157817, 39088169, 2**62]))
    assert 0 < u.min() < u.max() < 1
    assert u[1].item() == pytest.approx(1.0)


def test_edms_noise_levels_are_log_normal_on_any_path():
    u = even(torch.arange(4000)).double()
    for path in (Edm(), VariancePreserving(), Straight()):
        ours = Times(name="log-normal").at(torch.arange(4000), path, None)
        torch.testing.assert_close(ours.double(), log_normal(u, path), rtol=0, atol=1e-4)
        alpha, sigma = path(log_normal(u, path))
        levels = torch.log(sigma / alpha)
        assert levels.mean().item() == pytest.approx(-1.2, abs=0.01)
        assert levels.std().item() == pytest.approx(1.2, abs=0.01)
    level = c_noise(t64(1, 0.5, 1, 1, 0), t64(1, 0.5 * math.exp(4), math.exp(-4), 0, 1))
    assert level.tolist() == pytest.approx([0.5, 0.75, 0.25, 0, 1])


def test_pairs_are_the_best_of_all_permutations():
    generator = torch.Generator().manual_seed(1)
    for size in (1, 2, 6):
        x, y = torch.randn(2, size, 3, generator=generator)
        costs = {
            order: sum((x[i] - y[j]).square().sum().item() for i, j in enumerate(order))
            for order in itertools.permutations(range(size))
        }
        assert tuple(optimal_pairs(x, y).tolist()) == min(costs, key=costs.get)
    same = optimal_pairs(torch.ones(5, 2), torch.ones(5, 2))
    assert sorted(same.tolist()) == list(range(5))


def test_pairs_of_many_rows_are_those_of_the_plain_assignment():
    from scipy.optimize import linear_sum_assignment

    noise = KeyedNoise(0, torch.arange(200), "x")
    for size in (1, 2, 300):
        x, y = noise.normal(size) * 0.5 + 3, noise.normal(size)
        cost = torch.cdist(x.double(), y.double()).square()
        with torch.autocast("cpu", torch.bfloat16):  # as in training
            chosen = optimal_pairs(x, y)
        rows = torch.arange(200)
        best = cost[linear_sum_assignment(cost.numpy())].sum()
        torch.testing.assert_close(cost[rows, chosen].sum(), best, rtol=1e-5, atol=0)


def test_pairs_never_mix_labels_and_are_the_best_of_those():
    noise = KeyedNoise(0, torch.arange(90), "x")
    x, y, label = noise.normal(2), noise.normal(2), torch.arange(90) % 4 - 1  # -1 is a row without a label
    chosen = optimal_pairs(x, y, label)
    assert sorted(chosen.tolist()) == list(range(90))
    assert bool((label[chosen] == label).all())
    for value in label.unique():
        rows = (label == value).nonzero()[:, 0]
        assert torch.equal(chosen[rows], rows[optimal_pairs(x[rows], y[rows])])
    assert torch.equal(optimal_pairs(x, y), optimal_pairs(x, y, torch.full((90,), 3)))


def test_noise_of_a_label_is_all_of_the_noise():
    """Labels on either side of 0: over all rows, each would get its own half of the noise, of mean 0.8."""
    label = torch.arange(4096) % 2
    noise = KeyedNoise(0, torch.arange(4096), "x")
    x, eps = 0.1 * noise.normal(1) + 4 * label[:, None] - 2, noise.normal(1)
    batches = zip(*(values.split(128) for values in (x, eps, label)), strict=True)
    paired = torch.cat([e[optimal_pairs(a, e, b)] for a, e, b in batches])
    for value in (0, 1):
        assert paired[label == value].mean().item() == pytest.approx(0, abs=0.1)  # five standard errors
        assert paired[label == value].std().item() == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("old", [VariancePreserving(), Straight(), Edm()], ids=lambda path: type(path).__name__)
def test_a_converted_denoiser_believes_the_same(old):
    """The exact denoiser of one path, asked on another, is the exact denoiser of the other."""
    mean, covariance = t64(0.3, -0.2), torch.tensor([[0.5, 0.2], [0.2, 0.3]]).double()
    x = torch.randn(4, 2, dtype=torch.float64)
    t = t64(0.001, 0.2, 0.5, 0.7)
    for new in PATHS:
        converted = OnPath(GaussianData(old, mean, covariance), new)
        exact = GaussianData(new, mean, covariance)
        torch.testing.assert_close(converted.denoise(x, t).mean, exact.denoise(x, t).mean, rtol=1e-6, atol=1e-7)
