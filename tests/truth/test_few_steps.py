"""Consistency, progressive distillation and reflow on Gaussian data, where flows and their ends are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate as quadrature
from scipy import stats
from torch import nn

from reverie.core.batch import Batch, Condition
from reverie.core.capabilities import Decodes, Denoises, Encodes, LogProb
from reverie.core.errors import RequestError
from reverie.core.model import Model, ModelConfig, Part
from reverie.core.noise import KeyedNoise
from reverie.core.player import Loss, Progress, Turn
from reverie.core.space import Space
from reverie.evaluation.straightness import straightness
from reverie.maths.consistency import (
    curriculum,
    lognormal_shares,
    noise_levels,
    pick,
    pseudo_huber,
    squared,
    to_the_end,
)
from reverie.maths.distillation import target_of_step, towards_both_ends, truncated_snr
from reverie.maths.paths import LinearBetas, Straight, per_row
from reverie.maths.posteriors import Dirac, GaussianData
from reverie.maths.times import even
from reverie.models.diffusion import consistency, progressive, reflow
from reverie.nn.pairs import Pairs
from reverie.nn.preconditioned import Preconditioned
from reverie.nn.schedule import LearnedSchedule
from reverie.nn.student import Student, find_teacher
from reverie.samplers.conversion import on_path, straightened
from reverie.samplers.guidance.classifier_free import ClassifierFree

MEAN = torch.tensor([0.6, -0.4], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.5, 0.3], [0.3, 0.4]], dtype=torch.float64)
VARIANCES, AXES = torch.linalg.eigh(COVARIANCE)
POINTS = Space((2,))
PATHS = [LinearBetas(), Straight()]
IDS = ["linear", "straight"]


class Known(Model):
    """A model of which only what it denoises is known; ``shift`` is what it might learn."""

    def __init__(self, exact, space: Space = POINTS) -> None:
        super().__init__(ModelConfig(), space, {})
        self.exact, self.path = exact, exact.path
        self.learns = nn.Linear(1, 2, bias=False, dtype=torch.float64)
        nn.init.zeros_(self.learns.weight)

    def averaged(self):
        return (self.learns,)

    def denoise(self, x_t, t, condition=None):
        return Dirac(self.exact.denoise(x_t, t, condition).mean + self.learns(torch.ones_like(x_t[:, :1])))

    def enter(self, x):
        return x

    def leave(self, z):
        return z

    def sample(self, noise, condition=None, how=None):
        return noise.normal(2)


def teacher(path=None, exact=None) -> dict[str, Part]:
    return {"teacher": Part(Known(exact or GaussianData(path or Straight(), MEAN, COVARIANCE)))}


def rows(count: int, seed: int = 0) -> torch.Tensor:
    z = KeyedNoise(seed, torch.arange(count), "data").normal(2).double()
    return MEAN + z @ torch.linalg.cholesky(COVARIANCE).T


class Doubled:
    """Noise in float64, so that errors are those of the method."""

    def __init__(self, noise) -> None:
        self.noise, self.ids = noise, noise.ids

    def fork(self, stream):
        return Doubled(self.noise.fork(stream))

    def split(self, *sizes):
        return [Doubled(part) for part in self.noise.split(*sizes)]

    def normal(self, *shape):
        return self.noise.normal(*shape).double()

    def uniform(self, *shape):
        return self.noise.uniform(*shape).double()

    def integers(self, high, *shape):
        return self.noise.integers(high, *shape)


def turn(count: int, fraction: float = 0.0, first: int = 0) -> Turn:
    ids = torch.arange(first, first + count)
    batch = Batch(rows(count), Condition(), ids, ids)
    return Turn(batch, Doubled(KeyedNoise(0, ids, "train")), Progress(fraction=fraction))


def flowed(x: torch.Tensor, sigma: torch.Tensor, to: torch.Tensor | float) -> torch.Tensor:
    """Exactly where the flow of Gaussian data takes x at noise sigma: each axis shrinks with its deviation."""
    shrink = torch.sqrt((VARIANCES + torch.as_tensor(to) ** 2) / (VARIANCES + sigma**2))
    return MEAN + (((x - MEAN) @ AXES) * shrink) @ AXES.T


class ExactEnds(nn.Module):
    """The denoiser whose consistency function is the exact one of Gaussian data."""

    path, space = Straight(), POINTS

    def __init__(self, sigma_min: float) -> None:
        super().__init__()
        self.sigma_min = sigma_min

    def denoise(self, x_t, t, condition=None):
        r = per_row(t, x_t)
        x, sigma = x_t / (1 - r), r / (1 - r)
        kept = self.sigma_min / sigma
        return Dirac((flowed(x, sigma, self.sigma_min) - kept * x) / (1 - kept).clamp_min(1e-12))


# The arithmetic.


def test_noise_levels_are_karras():
    levels = noise_levels(18, 0.002, 80.0)
    assert levels[0].item() == pytest.approx(0.002)
    assert levels[-1].item() == pytest.approx(80.0)
    # By hand: ((0.002^(1/7) + 80^(1/7)) / 2)^7 = ((0.411580 + 1.870086) / 2)^7 = 1.140833^7.
    assert noise_levels(3, 0.002, 80.0)[1].item() == pytest.approx(2.5152, abs=5e-4)
    assert bool((levels.diff() > 0).all())


def test_the_curriculum_doubles_at_even_times():
    seen = [curriculum(k / 8, 10, 1280) for k in range(9)]
    assert seen == [10, 20, 40, 80, 160, 320, 640, 1280, 1280]
    assert curriculum(0.1249, 10, 1280) == 10
    assert {curriculum(f / 10, 18, 18) for f in range(11)} == {18}


def test_shares_are_those_of_a_lognormal_cut_to_the_levels():
    levels = noise_levels(12, 0.002, 80.0)
    cumulative = stats.norm.cdf(np.log(levels.numpy()), loc=-1.1, scale=2.0)
    expected = np.diff(cumulative) / (cumulative[-1] - cumulative[0])
    shares = lognormal_shares(levels)
    np.testing.assert_allclose(shares.numpy(), expected, rtol=1e-9)
    picked = pick((torch.arange(100_000) + 0.5) / 100_000, shares)
    np.testing.assert_allclose(torch.bincount(picked, minlength=11).numpy() / 1e5, expected, atol=2e-5)


def test_the_pseudo_huber_distance():
    a, b = torch.tensor([[3.0, 0.0], [1e-5, 0.0]]).double(), torch.tensor([[0.0, 4.0], [0.0, 0.0]]).double()
    c = 0.00054 * math.sqrt(2)
    distance = pseudo_huber(a, b)
    assert distance[0].item() == pytest.approx(math.sqrt(25 + c**2) - c)
    assert distance[1].item() == pytest.approx(1e-10 / (2 * c), rel=1e-3)
    assert squared(a, b)[0].item() == 25


def test_the_boundary_condition_and_the_papers_factors():
    """With EDM's denoiser the factor of the network is the paper's, that of x nearly, and at the end nothing moves."""
    network = nn.Identity()
    network.forward = lambda x, t, condition: torch.full_like(x, 0.7)
    model, eps, data = Preconditioned(network, POINTS, 0.5), 0.002, 0.5
    sigma = torch.tensor([0.002, 0.003, 0.1, 0.5, 80.0], dtype=torch.float64)
    x = torch.tensor([[0.3, -1.0]]).double() * (1 + per_row(sigma, rows(5)))
    rows_sigma = per_row(sigma, x)
    mean = straightened(model).denoise(x / (1 + rows_sigma), sigma / (1 + sigma)).mean
    ends = to_the_end(mean, x, rows_sigma, eps)
    torch.testing.assert_close(ends[0], x[0], rtol=0, atol=1e-12)
    skip = data**2 / ((rows_sigma - eps) ** 2 + data**2)
    out = data * (rows_sigma - eps) / torch.sqrt(data**2 + rows_sigma**2)
    assert ((ends - (skip * x + out * 0.7)) / x).abs().max() < eps / data
    # The same denoiser in EDM's own form, Table 1.
    edm = data**2 / (rows_sigma**2 + data**2) * x + rows_sigma * data / torch.sqrt(rows_sigma**2 + data**2) * 0.7
    torch.testing.assert_close(mean, edm)


def test_a_preconditioned_network_sees_unit_variance_and_both_ends():
    seen = []

    class Spy(nn.Module):
        def forward(self, x, t, condition):
            seen.append((x, t))
            return torch.ones_like(x)

    model, t = Preconditioned(Spy(), POINTS, 0.5), torch.linspace(0, 1, 5).double()
    x_0, eps = 0.5 * torch.ones(5, 2).double(), torch.tensor([[1.0, -1.0]]).double().expand(5, 2)
    mean = model.denoise(per_row(1 - t, x_0) * x_0 + per_row(t, x_0) * eps, t).mean
    power = seen[0][0].square().mean(1)  # of x_0 and eps at right angles
    torch.testing.assert_close(power, torch.ones(5).double())
    torch.testing.assert_close(mean[0], x_0[0])
    torch.testing.assert_close(mean[-1], 0.5 * torch.ones(2).double())
    assert bool((seen[0][1].diff() > 0).all())
    assert seen[0][1].max() < 1e-2


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_straightened_denoisers_keep_their_mean(path):
    r, z = torch.tensor([0.003, 0.2, 0.5, 0.9]).double(), rows(4)
    exact = GaussianData(path, MEAN, COVARIANCE)
    ours = straightened(exact).denoise(z, r).mean
    torch.testing.assert_close(ours, GaussianData(Straight(), MEAN, COVARIANCE).denoise(z, r).mean, rtol=0, atol=1e-9)
    # Beyond a path's last noise it is asked at its end.
    one = torch.ones(4).double()
    scale = sum(path(one))[:, None]
    torch.testing.assert_close(straightened(exact).denoise(z, one).mean, exact.denoise(scale * z, one).mean)


def test_a_denoiser_that_is_on_the_path_is_asked_as_it_is():
    exact = GaussianData(Straight(), MEAN, COVARIANCE)
    assert straightened(exact) is exact
    wrapped = ClassifierFree(exact, 2.0)
    assert on_path(wrapped, Straight()) is wrapped
    assert on_path(exact, LinearBetas()) is not exact


# Consistency.


def distilled(intervals: int, path=None, **changes) -> consistency.Consistency:
    config = consistency.Config(intervals=(intervals, intervals), drop_label=0.0, **changes)
    return consistency.Consistency(config, POINTS, teacher(path))


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_the_teachers_step_follows_its_flow(path):
    model = distilled(200, path)
    levels = model.levels(200)
    sigma, near = levels[[40, 100, 150]], levels[[39, 99, 149]]
    x = per_row(torch.sqrt(1 + sigma**2), rows(3)) * rows(3)
    end = model._follow_teacher(x, sigma, near, None, KeyedNoise(0, torch.arange(3)))
    exact = flowed(x, per_row(sigma, x), per_row(near, x))
    assert (exact - x).abs().max() > 0.03
    torch.testing.assert_close(end, exact, rtol=0, atol=2e-5)


def test_the_exact_consistency_function_is_where_distillation_ends():
    """The loss of the closed form vanishes as levels grow dense; the posterior mean's does not."""
    found = []
    for intervals in (40, 160):
        model = distilled(intervals, distance="squared")
        naive = model.loss(turn(500)).terms["consistency"].item()
        model.student, model.target.module = ExactEnds(0.002), ExactEnds(0.002)
        found.append(model.loss(turn(500)).terms["consistency"].item())
        assert found[-1] < 1e-2 * naive
    assert found[1] < found[0] / 50  # errors of a step of order 2 are cubes of its length


def test_samples_of_the_exact_consistency_function_are_the_data():
    model = distilled(18)
    model.student = ExactEnds(0.002)
    noise = Doubled(KeyedNoise(0, torch.arange(20_000), "s"))
    for steps in (1, 2, 4):
        x = model.sample(noise, how=consistency.Sampling(steps=steps))
        torch.testing.assert_close(x.mean(0), MEAN, rtol=0, atol=0.02)
        torch.testing.assert_close(torch.cov(x.T), COVARIANCE, rtol=0, atol=0.02)
    part = model.sample(Doubled(KeyedNoise(0, torch.arange(7, 9), "s")), how=consistency.Sampling(steps=2))
    again = model.sample(Doubled(KeyedNoise(0, torch.arange(9), "s")), how=consistency.Sampling(steps=2))
    torch.testing.assert_close(part, again[7:])


def test_multistep_sampling_is_algorithm_1():
    model = distilled(1000)
    noise = Doubled(KeyedNoise(3, torch.arange(5), "s"))
    ours = model.sample(noise, how=consistency.Sampling(steps=3, last=0.8))
    draws = Doubled(KeyedNoise(3, torch.arange(5), "s"))

    def end(x, level):
        return model.consistent(x, torch.full((5,), level).double())

    x = end(80.0 * draws.normal(2), 80.0)
    for level in (8.0, 0.8):  # 80, 8 and 0.8 are evenly spaced in the logarithm; the nearest trained ones are used
        trained = min(model.levels(1000).tolist(), key=lambda s: abs(math.log(s / level)))
        assert trained == pytest.approx(level, rel=0.01)
        x = end(x + math.sqrt(trained**2 - 0.002**2) * draws.normal(2), trained)
    torch.testing.assert_close(ours, x)
    z = Doubled(KeyedNoise(3, torch.arange(5), "s")).normal(2)
    torch.testing.assert_close(model.decode((z,)), end(80.0 * z, 80.0))


class Scales(nn.Module):
    """F = w x: a network of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.3).double())

    def forward(self, x, t, condition=None, residuals=()):
        return self.weight * x


def test_training_alone_compares_neighbours_of_one_noise_and_lets_no_gradient_through_the_target():
    config = consistency.Config(intervals=(10, 10), distance="squared", drop_label=0.0)
    model = consistency.Consistency(config, POINTS, {})
    model.student.network = Scales()
    now, weight = turn(64), model.student.network.weight
    loss = model.loss(now).terms["consistency"]
    loss.backward()

    levels = noise_levels(11, 0.002, 80.0)
    near = pick(((torch.arange(64) * (5**0.5 - 1) / 2) % 1), lognormal_shares(levels))
    eps = now.noise.fork("eps").normal(2)

    def end(index, w):
        sigma = levels[index][:, None]
        x = now.batch.x + sigma * eps
        scale = 1 / torch.sqrt(sigma**2 + 0.25)
        mean = 0.25 * scale**2 * x + 0.5 * sigma * scale * w * (scale * x)
        return 0.002 / sigma * x + (1 - 0.002 / sigma) * mean

    w = torch.tensor(0.3).double().requires_grad_()
    gap = levels[near + 1] - levels[near]
    expected = ((end(near + 1, w) - end(near, 0.3)).square().sum(1) / math.sqrt(2) / gap).mean()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(weight.grad, w.grad, rtol=1e-5, atol=1e-8)


def test_the_distilled_target_lags_and_has_no_gradient():
    model = distilled(18, decay=0.9)
    student, target = model.student.model.learns.weight, model.target.module.model.learns.weight
    assert student.requires_grad
    assert not target.requires_grad
    with torch.no_grad():
        student.fill_(1.0)
    (player,) = model.players()
    player.after_turn(Loss({}))
    torch.testing.assert_close(target, torch.full_like(target, 0.1))
    player.after_turn(Loss({}))
    torch.testing.assert_close(target, torch.full_like(target, 0.19))
    assert all(not p.requires_grad for p in model.teacher.parameters())
    assert model.teacher.model.learns.weight.abs().max() == 0
    assert [id(p) for p in model.averaged()[0].parameters()] == [id(student)]


# Progressive distillation.


def test_the_target_of_a_step_by_hand():
    a_t, s_t, a_s, s_s = (torch.tensor([[v]]).double() for v in (0.6, 0.8, 0.8, 0.6))
    x_t, x_s = torch.tensor([[1.0]]).double(), torch.tensor([[2.0]]).double()
    target = target_of_step(x_t, x_s, a_t, s_t, a_s, s_s)
    assert target.item() == pytest.approx(1.25 / 0.35)  # (2 - 0.75 * 1) / (0.8 - 0.75 * 0.6)
    eps = (x_t - a_t * target) / s_t
    torch.testing.assert_close(a_s * target + s_s * eps, x_s)
    # The end is the data: the target is the end.
    one, zero = torch.ones(1, 1).double(), torch.zeros(1, 1).double()
    torch.testing.assert_close(target_of_step(x_t, x_s, a_t, s_t, one, zero), x_s)
    assert truncated_snr(torch.tensor(0.8), torch.tensor(0.4)).item() == pytest.approx(4.0)
    assert truncated_snr(torch.tensor(0.1), torch.tensor(0.9)).item() == 1.0


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_the_progressive_target_is_two_exact_ddim_steps(path):
    """On data N(m, v) in one dimension, with every quantity written out; any path leads to the same target."""
    mean, variance = torch.tensor([0.6, -0.4]).double(), torch.tensor([0.5, 0.2]).double()
    parts = teacher(exact=GaussianData(path, mean, torch.diag(variance)))
    model = progressive.Progressive(progressive.Config(steps=(8, 2)), POINTS, parts)
    t = torch.tensor([0.125, 0.5, 0.875]).double()
    x = rows(3)

    def step(x, t, s):
        x_0 = mean + (1 - t) * variance / ((1 - t) ** 2 * variance + t**2) * (x - (1 - t) * mean)
        return (1 - s) * x_0 + s * (x - (1 - t) * x_0) / t

    column = t[:, None]
    x_s = step(step(x, column, column - 0.0625), column - 0.0625, column - 0.125)
    ratio = (column - 0.125) / column
    expected = (x_s - ratio * x) / (1 - (column - 0.125) - ratio * (1 - column))
    torch.testing.assert_close(model.target(x, t, 8), expected, rtol=0, atol=3e-5)
    assert not model.target(x, t, 8).requires_grad


def test_stages_halve_the_steps_and_the_student_teaches_the_next():
    model = progressive.Progressive(progressive.Config(steps=(8, 2), decay=0.5), POINTS, teacher())
    (player,) = model.players()
    weight = model.student.model.learns.weight
    seen = []
    for k in range(9):
        loss = model.loss(turn(32, fraction=k / 9))
        again = model.loss(turn(32, fraction=k / 9))
        torch.testing.assert_close(loss.terms["distillation"], again.terms["distillation"], rtol=0, atol=0)
        seen.append(int(loss.figures["steps"]))
        with torch.no_grad():
            weight.fill_(k + 1.0)
        player.after_turn(loss)
        assert int(model.taught) == seen[-1]
    assert seen == [8, 8, 8, 4, 4, 4, 2, 2, 2]
    # At the sixth round's end the average of weights 1 … 6 with decay 0.5 was to teach, and it still does.
    average = 0.0
    for k in range(6):
        average = 0.5 * average + 0.5 * (k + 1.0)
    teaches = model.teaching.teacher.module.model.learns.weight
    torch.testing.assert_close(teaches, torch.full_like(teaches, average))
    assert model.loss(turn(32, fraction=0.1)).figures["steps"] == 2, "a larger budget takes no stage back"


def test_a_students_steps_are_its_teachers_two():
    """A student whose estimate is the target takes, in N steps, the way of its teacher in 2N."""
    model = progressive.Progressive(progressive.Config(steps=(4, 4)), POINTS, teacher())
    noise = Doubled(KeyedNoise(0, torch.arange(6), "s"))
    model.taught.fill_(8)
    two = model.sample(noise)
    model.taught.fill_(4)

    class Learnt(nn.Module):
        path, space = Straight(), POINTS

        def denoise(self, x_t, t, condition=None):
            return Dirac(model.target(x_t, t, 4))

    model.student = Learnt()
    noise = Doubled(KeyedNoise(0, torch.arange(6), "s"))
    torch.testing.assert_close(model.sample(noise), two, rtol=1e-6, atol=1e-8)


# Reflow.


class Coupled(nn.Module):
    """The exact denoiser of the pairs x_0 = A x_1 + b: from x_t it tells the one pair whose line passes there."""

    path, space = Straight(), POINTS

    def __init__(self) -> None:
        super().__init__()
        self.matrix = AXES @ torch.diag(torch.sqrt(VARIANCES)) @ AXES.T

    def couple(self, x_1):
        return MEAN + x_1 @ self.matrix.T

    def denoise(self, x_t, t, condition=None):
        t = per_row(t, x_t)
        mixing = (1 - t)[..., None] * self.matrix + t[..., None] * torch.eye(2).double()
        x_1 = torch.linalg.solve(mixing, (x_t - (1 - t) * MEAN)[..., None])[..., 0]
        return Dirac(self.couple(x_1))


def reflowed(path=None, **changes) -> reflow.Reflow:
    config = reflow.Config(**{"memory": 64, "drop_label": 0.0, **changes})
    return reflow.Reflow(config, POINTS, teacher(path)).double()


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_the_coupling_is_the_teachers_flow_and_nothing_else(path):
    x_1 = Doubled(KeyedNoise(0, torch.arange(8), "x")).normal(2)
    exact = Coupled().couple(x_1)
    coarse, fine = (reflowed(path, pair_steps=n).couple(x_1) for n in (10, 40))
    # DDPM's path ends at alpha = 0.006, short of pure noise.
    tolerance = 5e-3 if isinstance(path, Straight) else 1e-2
    torch.testing.assert_close(fine, exact, rtol=0, atol=tolerance)
    assert (coarse - exact).abs().max() > (fine - exact).abs().max()
    model = reflowed(path)
    assert torch.equal(model.couple(x_1), model.couple(x_1)), "no chance in it"
    torch.testing.assert_close(model.couple(x_1)[3:5], model.couple(x_1[3:5]))
    assert not model.couple(x_1.requires_grad_()).requires_grad


def test_lines_between_pairs_have_one_velocity_and_one_step_is_enough():
    model = reflowed()
    x_1 = Doubled(KeyedNoise(0, torch.arange(8), "x")).normal(2)
    x_0 = Coupled().couple(x_1)
    model.pairs.put(x_1, x_0, Condition())
    model.student, model.couple = Coupled(), lambda x_1, condition=None: Coupled().couple(x_1)
    assert model.loss(turn(64)).terms["velocity"].item() < 1e-20
    for t in (0.1, 0.5, 1.0):
        x_t = torch.lerp(x_0, x_1, t)
        torch.testing.assert_close(model.velocity(x_t, torch.full((8,), t).double()), x_1 - x_0)
    noise = KeyedNoise(1, torch.arange(100), "s")
    one, many = (model.sample(Doubled(noise.fork("s")), how=reflow.Sampling(steps=n)) for n in (1, 50))
    torch.testing.assert_close(one, many)
    torch.testing.assert_close(straightness(Coupled(), x_1), torch.zeros(8).double())
    exact = torch.distributions.MultivariateNormal(MEAN, COVARIANCE).log_prob(rows(5))
    torch.testing.assert_close(model.log_prob(rows(5)), exact, rtol=0, atol=5e-3)
    torch.testing.assert_close(model.decode(model.encode(rows(5))), rows(5), rtol=0, atol=5e-3)


class Constant(nn.Module):
    """A student that moves every row alike, with the velocity w, and so misses in every step."""

    path, space, w = Straight(), POINTS, torch.tensor([0.5, -2.0]).double()

    def denoise(self, x_t, t, condition=None):
        return Dirac(x_t - per_row(t, x_t) * self.w)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_training_at_the_steps_alone_asks_each_to_mend_what_those_before_it_missed(steps):
    """From x_1 the step to t = 1 - k / K comes to x_1 - (k / K) w; from there x_0 is (x_t - x_0) / t away."""
    model = reflowed(times="steps", sampling={"steps": steps})
    noise = Doubled(KeyedNoise(0, torch.arange(64), "x"))
    x_1, u = noise.normal(2), (torch.arange(64) + 0.5).double() / 64
    model.student = Constant()
    x_t, t = model._reached(x_1, u, Condition())
    k = (u * steps).floor()
    torch.testing.assert_close(t, 1 - k / steps)
    torch.testing.assert_close(x_t, x_1 - per_row(k / steps, x_1) * Constant.w)
    assert len(t.unique()) == steps
    # The loss is of all pairs at all steps: with one pair only it can be told by hand.
    x_1, x_0 = x_1[:1], torch.tensor([[1.5, 0.25]]).double()
    model.couple = lambda x_1, condition=None: x_0.expand_as(x_1)
    model.pairs.draw = lambda noise, labelled: (x_1.expand(48, 2), x_0.expand(48, 2), Condition())
    k = (even(torch.arange(48)).double() * steps).floor()
    t = per_row(1 - k / steps, x_1)
    error = Constant.w - (x_1 - (1 - t) * Constant.w - x_0) / t
    torch.testing.assert_close(model.loss(turn(48)).terms["velocity"], error.square().mean())
    model.student, model.pairs.draw = Coupled(), lambda noise, labelled: (x_1, Coupled().couple(x_1), Condition())
    assert model.loss(turn(1)).terms["velocity"].item() < 1e-20, "where no step misses all is as between pairs"


def test_what_was_trained_at_its_steps_alone_is_asked_at_no_other_times():
    model, noise = reflowed(times="steps", sampling={"steps": 2}), Doubled(KeyedNoise(0, torch.arange(5), "s"))
    model.student = Constant()
    x_1 = noise.fork("z").normal(2)
    torch.testing.assert_close(model.decode((x_1,)), x_1 - Constant.w)
    assert torch.equal(model.decode((noise.normal(2),)), model.sample(Doubled(KeyedNoise(0, torch.arange(5), "s"))))
    assert [model.view(kind) for kind in (Denoises, LogProb, Encodes)] == [None] * 3
    assert model.view(Decodes) is model
    for other in ({"steps": 4}, {"steps": 2, "solver": "heun"}):
        with pytest.raises(RequestError, match="its own steps alone, steps=2 solver=euler"):
            model.sample(noise, how=reflow.Sampling(**other))
    assert all(reflowed().view(kind) for kind in (Denoises, LogProb, Encodes, Decodes))


@pytest.mark.parametrize("v", [0.25, 0.05, 0.0025])
def test_straightness_of_a_gaussian_flow_is_its_integral(v):
    """In one axis the flow is x_t = z sqrt(a_t) with a_t = (1 - t)^2 v + t^2; the paper's S by quadrature."""
    z = 1.7
    data = GaussianData(Straight(), torch.zeros(1).double(), torch.tensor([[v]]).double())
    chord = z - z * math.sqrt(v)
    exact, _ = quadrature.quad(
        lambda t: (chord - z * (t - (1 - t) * v) / math.sqrt((1 - t) ** 2 * v + t**2)) ** 2, 0, 1
    )
    ours = straightness(data, torch.tensor([[z]]).double())
    assert ours.item() == pytest.approx(exact, rel=1e-2)
    assert exact > 0.05


def test_pairs_are_replayed_as_often_as_stated_and_the_oldest_give_way():
    model = reflowed(reuse=4, memory=64)
    for k in range(40):
        model.loss(turn(16, first=16 * k))
    assert int(model.pairs.written) == 40 * 4
    pairs = Pairs(Space((1,), classes=3), 4)
    for k in range(3):
        value = torch.full((2, 1), float(k))
        pairs.put(value, -value, Condition(label=torch.tensor([k, k])))
    assert pairs.noise[:, 0].tolist() == [2.0, 2.0, 1.0, 1.0]
    x_1, x_0, condition = pairs.draw(KeyedNoise(0, torch.arange(100)), labelled=True)
    assert torch.equal(x_1, -x_0)
    assert torch.equal(condition.label, x_1[:, 0].long())
    assert set(condition.label.tolist()) == {1, 2}


def test_times_towards_both_ends_have_their_density():
    def density(t):
        return math.exp(4 * t) + math.exp(4 * (1 - t))

    total, _ = quadrature.quad(density, 0, 1)
    for u in (0.01, 0.2, 0.5, 0.9):
        t = towards_both_ends(torch.tensor(u, dtype=torch.float64)).item()
        assert quadrature.quad(density, 0, t)[0] / total == pytest.approx(u, abs=1e-9)


# What is asked of a teacher.


def test_students_begin_as_their_teachers():
    parts = teacher(LinearBetas())
    student = Student(parts["teacher"].model)
    t, x = torch.tensor([0.2, 0.7]).double(), rows(2)
    torch.testing.assert_close(student.denoise(x, t).mean, parts["teacher"].model.denoise(x, t).mean)
    assert student.path == LinearBetas()


class Deaf(Model):
    """A model that does not denoise."""

    def sample(self, noise, condition=None, how=None):
        return noise.normal(2)


def test_bad_teachers_are_told_in_a_sentence():
    with pytest.raises(RequestError, match="needs a teacher"):
        progressive.Progressive(progressive.Config(), POINTS, {})
    with pytest.raises(RequestError, match="needs a teacher"):
        reflow.Reflow(reflow.Config(), POINTS, {})
    with pytest.raises(RequestError, match=r"rows of shape \[2\], the data have \[3\]"):
        reflow.Reflow(reflow.Config(), Space((3,)), teacher())
    with pytest.raises(RequestError, match="does not denoise"):
        consistency.Consistency(consistency.Config(), POINTS, {"teacher": Part(Deaf(ModelConfig(), POINTS, {}))})
    with pytest.raises(RequestError, match="halving"):
        progressive.Progressive(progressive.Config(steps=(16, 3)), POINTS, teacher())
    with pytest.raises(RequestError, match="no maps"):
        reflow.Reflow(reflow.Config(), Space((2,), maps=3), teacher())
    labelled = Part(Known(GaussianData(Straight(), MEAN, COVARIANCE), Space((2,), classes=3)))
    with pytest.raises(RequestError, match="3 classes"):
        reflow.Reflow(reflow.Config(), Space((2,), classes=4), {"teacher": labelled})
    unlabelled = reflow.Reflow(reflow.Config(), Space((2,), classes=4), teacher())
    assert unlabelled.space.classes == 0, "a student has no labels that its teacher does not know"


@pytest.mark.parametrize(
    ("known", "data", "told"),
    [
        (Space((2,), maps=3), POINTS, "draws from maps of 3 channels, the data have no maps"),
        (Space((2,), maps=3), Space((2,), maps=1), "draws from maps of 3 channels, the data have maps of 1 channels"),
        (Space((2,), sequence=8), POINTS, "draws from sequences of 8 values, the data have no sequences"),
        (POINTS, Space((2,), sequence=8), "draws from no sequences, the data have sequences of 8"),
        (POINTS, Space((2,), maps=1), "draws from no maps, the data have maps of 1"),
    ],
)
def test_a_teacher_draws_from_what_the_data_have(known, data, told):
    model = Known(GaussianData(Straight(), MEAN, COVARIANCE), known)
    with pytest.raises(RequestError, match=told):
        find_teacher({"teacher": Part(model)}, data)
    find_teacher({"teacher": Part(model)}, known)


def test_of_a_teacher_that_learned_its_control_alone_nothing_is_left_to_learn_without_maps():
    class Controlled(Known):
        maps_optional = True

    part = Part(Controlled(GaussianData(Straight(), MEAN, COVARIANCE), Space((2,), maps=1)))
    with pytest.raises(RequestError, match="teach with its base"):
        find_teacher({"teacher": part}, POINTS)
    assert find_teacher({"teacher": part}, Space((2,), maps=1)) is part


def test_a_learned_schedule_stays_as_its_teacher_has_it():
    """The student is asked along it, by an inverse without gradient: what came back would be none of it."""

    class Scheduled(Known):
        def __init__(self) -> None:
            super().__init__(GaussianData(Straight(), MEAN, COVARIANCE))
            self.path = LearnedSchedule()

        def averaged(self):
            return (self.learns, self.path)

    student = Student(Part(Scheduled()).model)
    assert [p.requires_grad for p in student.model.learns.parameters()] == [True]
    assert not any(p.requires_grad for p in student.path.parameters())
    assert student.learners() == [student.model.learns]
