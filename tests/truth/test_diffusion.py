"""The general diffusion model on Gaussian data with exact denoisers: bounds, likelihoods, starts, losses."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import reverie
from reverie.core.batch import Batch, Condition
from reverie.core.capabilities import Bounds, LogProb
from reverie.core.errors import RequestError
from reverie.core.noise import KeyedNoise
from reverie.core.player import Progress, Turn
from reverie.core.space import Space
from reverie.data import DataConfig, open_data
from reverie.maths import predictions
from reverie.maths.densities import gaussian_kl
from reverie.maths.posteriors import GaussianData, LearnedStep, backward
from reverie.maths.transport import optimal_pairs
from reverie.models.diffusion.ddpm import DDPM
from reverie.models.diffusion.ddpm import Config as DDPMConfig
from reverie.models.diffusion.diffusion import Config, Diffusion, Likelihood, Sampling, Times
from reverie.models.diffusion.flow_matching import Config as FlowConfig
from reverie.models.diffusion.flow_matching import FlowMatching
from reverie.nn.schedule import LearnedSchedule
from reverie.samplers.guidance.clip import Clip

MEAN = torch.tensor([0.3, -0.2], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.5, 0.2], [0.2, 0.3]], dtype=torch.float64)
POINTS = Space((2,))
DATA = torch.distributions.MultivariateNormal(MEAN, COVARIANCE)


def exact(model: Diffusion | DDPM, mean: torch.Tensor = MEAN) -> GaussianData:
    return GaussianData(model.path, mean, COVARIANCE)


def create(path: str | dict, mean: torch.Tensor = MEAN, **changes: object) -> Diffusion:
    """A model whose network is right about the Gaussian, whatever it predicts."""
    model = Diffusion(Config(path=path, **changes), POINTS, {})
    share = 0.3 if model.config.learned_variance else None

    def output(x_t, t, alpha_t, sigma_t, condition):
        x_0 = exact(model, mean).denoise(x_t, t).mean
        marginal = (alpha_t**2)[..., None] * COVARIANCE + (sigma_t**2)[..., None] * torch.eye(2)
        eps = sigma_t * torch.linalg.solve(marginal, (x_t - alpha_t * mean)[..., None])[..., 0]
        sigma_t = sigma_t.clamp_min(1e-9)
        value = predictions.target(model.config.prediction, x_0, eps, alpha_t, sigma_t, model.config.data_std)
        return value.to(x_t.dtype), None if share is None else torch.full_like(x_t, share)

    model._output = output
    return model


class Nodes:
    """Gauss-Hermite nodes in place of normal draws: means of quadratics over them are exact."""

    def __init__(self) -> None:
        nodes, weights = [-(3**0.5), 0.0, 3**0.5], [1 / 6, 2 / 3, 1 / 6]
        grid = torch.tensor(list(itertools.product(nodes, repeat=4)), dtype=torch.float64)
        self.weights = torch.tensor([math.prod(w) for w in itertools.product(weights, repeat=4)]).double()
        self.x = MEAN + grid[:, :2] @ torch.linalg.cholesky(COVARIANCE).T
        self.eps = grid[:, 2:]
        self.ids = torch.arange(len(grid))

    def fork(self, stream: str) -> Nodes:
        return self

    def normal(self, *shape: int) -> torch.Tensor:
        return self.eps

    def uniform(self, *shape: int) -> torch.Tensor:
        return torch.full((len(self.ids), *shape), 0.5)

    def mean(self, values: torch.Tensor) -> float:
        return (self.weights * values).sum().item()


def beta(beta: float, tilde: float) -> float:
    return beta


def tilde(beta: float, tilde: float) -> float:
    return tilde


def learned(beta: float, tilde: float) -> float:
    return beta**0.3 * tilde**0.7


def closed_form(path, steps: int, variance, first, scale: float = 1.0) -> float:
    """E over data of the bound of a chain: each term from the two Gaussians it compares.

    ``variance`` of a step from beta and beta-tilde; ``first`` that of the reconstruction, with the second's tilde.
    """
    variances = torch.linalg.eigvalsh(COVARIANCE)
    second = (COVARIANCE.trace() + MEAN @ MEAN).item()

    def at(i: int) -> tuple[float, float]:
        return tuple(a.item() for a in path(torch.tensor([i / steps], dtype=torch.float64)))

    def unknown(alpha: float, sigma: float) -> float:
        return (1 / (1 / variances + alpha**2 / sigma**2)).sum().item()

    alpha, sigma = (a / scale for a in at(steps))
    total = -0.5 * (2 * (sigma**2 - 1 - math.log(sigma**2)) + alpha**2 * second)
    for i in range(2, steps + 1):
        (alpha, sigma), (alpha_s, sigma_s) = at(i), at(i - 1)
        beta = sigma**2 - alpha**2 / alpha_s**2 * sigma_s**2  # Var[x_t | x_s]
        tilde = sigma_s**2 * beta / sigma**2
        given = variance(beta, tilde)
        gain = alpha_s * beta / sigma**2  # of x_0 in the mean
        total -= 0.5 * 2 * (tilde / given - 1 - math.log(tilde / given)) + gain**2 * unknown(alpha, sigma) / 2 / given
    alpha, sigma = at(1)
    (alpha_2, sigma_2) = at(2)
    tilde = sigma**2 * (1 - alpha_2**2 / alpha**2 * sigma**2 / sigma_2**2)  # beta-tilde of the second step
    last = first(sigma**2, tilde)
    return total - 0.5 * (2 * math.log(2 * math.pi * last) + unknown(alpha, sigma) / last)


def within(bound: float, wanted: float) -> None:
    assert bound == pytest.approx(wanted, abs=2e-6)
    assert bound < -DATA.entropy().item()


def test_ddpms_bound_is_its_closed_form():
    """Exact over data and noise: to 1e-6 nats, where the promise is 1e-3."""
    model, nodes = DDPM(DDPMConfig(steps=50, betas=(1e-3, 0.2), bound_times=49), POINTS, {}), Nodes()
    model.denoise = exact(model).denoise
    bound = nodes.mean(model.elbo(nodes.x, nodes))
    within(bound, closed_form(model.path, 50, beta, beta))


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ({"name": "cosine-betas", "steps": 40}, {"learned_variance": True}),
        ({"name": "linear-betas", "steps": 40, "first": 1e-3, "last": 0.2}, {}),
        ({"name": "noise-levels", "steps": 40}, {"prediction": "score"}),
        ("variance-preserving", {"prediction": "v"}),
        ("straight", {"prediction": "velocity"}),
        ({"name": "edm", "smallest": 0.05}, {"prediction": "edm"}),
    ],
    ids=["learned", "linear", "levels", "vp", "straight", "edm"],
)
def test_the_chains_bound_is_its_closed_form_on_every_path(path, changes):
    """Variances beta-tilde or learned; the first step's is beta where none is learned."""
    model, nodes = create(path, likelihood=Likelihood(chain=40, times=39), **changes), Nodes()
    scale = math.hypot(*(a.item() for a in model.path(torch.ones(1).double())))
    variances = (learned, learned) if model.config.learned_variance else (tilde, beta)
    within(nodes.mean(model.elbo(nodes.x, nodes)), closed_form(model.path, 40, *variances, scale))


class Repeated(Nodes):
    """The nodes as often as they weigh (in 1,296ths), so that plain means over them are exact."""

    def __init__(self) -> None:
        super().__init__()
        times = (self.weights * 6**4).round().long()
        self.x, self.eps = self.x.repeat_interleave(times, 0), self.eps.repeat_interleave(times, 0)
        self.ids = torch.arange(6**4)
        self.weights = torch.full((6**4,), 6.0**-4).double()


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ({"name": "linear-betas", "steps": 20, "first": 1e-3, "last": 0.3}, {"prediction": "eps"}),
        (
            {"name": "linear-betas", "steps": 20, "first": 1e-3, "last": 0.3},
            {"likelihood": Likelihood(variance="beta")},
        ),
        ({"name": "cosine-betas", "steps": 20}, {"learned_variance": True}),
        ({"name": "noise-levels", "steps": 20}, {"prediction": "score"}),
    ],
    ids=["posterior", "beta", "learned", "levels"],
)
def test_what_training_by_the_bound_minimises_is_the_bound(path, changes, monkeypatch):
    """The mean over t of the loss, in nats a row, is the negative bound: its closed form and the chain's own."""
    model, nodes = create(path, weighting="bound", **changes), Repeated()
    model.chain = replace(model.chain, times=19)
    given = Turn(Batch(nodes.x, Condition(), nodes.ids, nodes.ids), nodes, Progress())
    losses = []
    for step in range(1, 21):
        t = torch.full((6**4,), step / 20, dtype=torch.float64)
        monkeypatch.setattr(Times, "at", lambda self, ids, path, steps, t=t: t)
        losses.append(model.loss(given))
    found = -2 * sum(sum(loss.terms.values()).item() for loss in losses) / 20
    assert found == pytest.approx(nodes.mean(model.elbo(nodes.x, nodes)), abs=1e-5)  # its weights are in float32
    variances = [tilde, beta]
    if model.config.learned_variance:
        variances = [learned, learned]
    elif model.config.likelihood.variance == "beta":
        variances = [beta, beta]
    scale = math.hypot(*(a.item() for a in model.path(torch.ones(1).double())))
    within(found, closed_form(model.path, 20, *variances, scale))
    prior = model.chain.prior(nodes.x).mean().item()
    assert 2 * losses[0].terms["prior"].item() == pytest.approx(prior)
    assert prior > 1e-6
    assert losses[0].terms["reconstruction"].item() != 0 == losses[0].terms["diffusion"].item()
    assert losses[7].figures["bits_per_dim"].item() == pytest.approx(sum(losses[7].terms.values()).item() / math.log(2))


def test_training_by_the_bound_takes_each_step_alike_and_reaches_mean_and_variance():
    path = {"name": "cosine-betas", "steps": 10}
    model = Diffusion(Config(path=path, weighting="bound", learned_variance=True), POINTS, {})
    t = model.config.times.at(torch.arange(1000), model.path, model.ticks)
    assert (10 * t).round().long().bincount().tolist() == pytest.approx([0, *[100] * 10], abs=2)
    sum(model.loss(turn(torch.randn(64, 2))).terms.values()).backward()
    assert bool(model.network.head.weight.grad.ne(0).any(1).all()), "of both halves of the outputs"
    with pytest.raises(RequestError, match="weighting=bound is the mean over even times; times=logit-normal"):
        Diffusion(Config(path=path, weighting="bound", times=Times(name="logit-normal")), POINTS, {})


def continuous_closed_form() -> float:
    r"""E log p(x | z_0) - KL(q(x_1 | x), N(0, I)) - I of the schedule from -6 to 3, exact.

    The reverse process of an exact score is the forward one: only the two ends keep the bound from log p. I, the
    information that x_{t=0} has of the data beyond what x_1 has, is a difference of two entropies of Gaussians.
    """
    variances = torch.linalg.eigvalsh(COVARIANCE)

    def information(gamma: float) -> float:
        return 0.5 * torch.log1p(math.exp(-gamma) * variances).sum().item()

    reconstruction = -(math.log(2 * math.pi) - 6.0 + 1)  # sigma_0^2 / alpha_0^2 = exp(-6)
    alpha2, sigma2 = 1 / (1 + math.exp(3.0)), 1 / (1 + math.exp(-3.0))
    second = (COVARIANCE.trace() + MEAN @ MEAN).item()
    kl = 0.5 * (2 * (sigma2 - 1 - math.log(sigma2)) + alpha2 * second)
    return reconstruction - kl - (information(-6.0) - information(3.0))


@pytest.mark.parametrize("name", ["linear-log-snr", "learned"])
def test_the_continuous_bound_is_tight_where_the_denoiser_is_right(name):
    path = {"name": name, "first": -6.0, "last": 3.0}
    model = create(path, weighting="bound", likelihood=Likelihood(times=100))
    nodes = Nodes()
    bound, wanted = nodes.mean(model.elbo(nodes.x, nodes)), continuous_closed_form()
    assert bound / 2 == pytest.approx(wanted / 2, abs=1e-4)
    assert wanted < -DATA.entropy().item() < wanted + 0.1


@pytest.mark.parametrize(
    ("path", "prediction"),
    [
        ("linear-betas", "eps"),
        ("cosine", "v"),
        ("variance-preserving", "score"),
        ("sub-variance-preserving", "x0"),
        ("variance-exploding", "score"),
        ("edm", "edm"),
        ("straight", "velocity"),
    ],
)
def test_the_flows_likelihood_is_log_p_on_every_path(path, prediction):
    """To 1e-3 nats a dimension, on data about 0: the prior is, too, and what is left of a mean at t = 1 is not."""
    model = create(path, torch.zeros(2).double(), prediction=prediction, likelihood=Likelihood(by="flow", steps=30))
    z = KeyedNoise(0, torch.arange(20), "data").normal(2).double()
    x = z @ torch.linalg.cholesky(COVARIANCE).T
    assert ((model.log_prob(x) - DATA.log_prob(x + MEAN)) / 2).abs().max() < 1e-3
    assert model.view(Bounds) is None
    assert model.view(LogProb) is model


@pytest.mark.parametrize("first", [-13.3, -6.0, -3.0])
def test_the_flows_likelihood_counts_the_noise_with_which_a_path_begins(first):
    """A sample ends at x_{t=0} ~ N(0, alpha_0^2 C + sigma_0^2 I), whose density a row has; gamma_1 = 12 is noise."""
    path = {"name": "linear-log-snr", "first": first, "last": 12.0}
    model = create(path, torch.zeros(2).double(), prediction="eps", likelihood=Likelihood(by="flow", steps=60))
    alpha_0, sigma_0 = model.path(torch.zeros(1).double())
    ends = torch.distributions.MultivariateNormal(0 * MEAN, alpha_0**2 * COVARIANCE + sigma_0**2 * torch.eye(2))
    x = ends.mean + KeyedNoise(0, torch.arange(20), "data").normal(2).double() @ ends.scale_tril.T
    assert ((model.log_prob(x) - ends.log_prob(x)) / 2).abs().max() < 1e-3
    if first == -13.3:  # a trace that data do not show
        assert ((model.log_prob(x) - DATA.log_prob(x + MEAN)) / 2).abs().max() < 1e-3


@pytest.mark.parametrize("path", ["linear-betas", "sub-variance-preserving", "edm"])
def test_samples_start_where_the_path_ends(path):
    """The moments of the data come out of Heun's steps; encode undoes decode."""
    grid = "even" if path == "linear-betas" else "karras"
    how = Sampling(steps=40, solver="heun", grid=grid)
    model = create(path, prediction="x0", sampling=how)
    x = model.sample(KeyedNoise(0, torch.arange(8000), "s")).double()
    torch.testing.assert_close(x.mean(0), MEAN, rtol=0, atol=0.02)
    torch.testing.assert_close(torch.cov(x.T), COVARIANCE, rtol=0, atol=0.02)
    (z,) = model.encode(x[:200])
    assert z.std().item() == pytest.approx(1, abs=0.12)
    assert (model.decode((z,)) - x[:200]).abs().max() < 0.05


def turn(x: torch.Tensor) -> Turn:
    ids = torch.arange(len(x))
    return Turn(Batch(x, Condition(), ids, ids), KeyedNoise(0, ids, "loss"), Progress())


def test_a_network_sees_rows_of_unit_variance_at_every_time():
    model = Diffusion(Config(path="edm", prediction="edm", data_std=0.5, times=Times(name="log-normal")), POINTS, {})
    seen: list[torch.Tensor] = []

    class Records(nn.Module):
        def forward(self, x, t, condition=None, residuals=()):
            seen.extend((x, t))
            return torch.zeros_like(x)

    model.network = Records()
    x = 0.5 * KeyedNoise(1, torch.arange(20_000), "x").normal(2)
    loss = model.loss(turn(x))
    assert seen[0].std().item() == pytest.approx(1, abs=0.01)
    assert bool(((seen[1] > 0) & (seen[1] < 1)).all())
    assert loss.terms["simple"].item() == pytest.approx(1, abs=0.02)  # a network of zeros misses a unit variance


@pytest.mark.parametrize("prediction", ["eps", "score", "edm", "x0", "v", "velocity"])
def test_without_noise_the_estimate_is_finite_and_but_for_x0_the_row_itself(prediction):
    model = Diffusion(Config(path="variance-exploding", prediction=prediction), POINTS, {})
    x = torch.randn(3, 2)
    found = model.denoise(x, torch.zeros(3)).mean
    assert prediction == "x0" or bool((found == x).all())
    assert bool(torch.isfinite(model.velocity(x, torch.zeros(3))).all())


def test_optimal_transport_pairs_the_noise_and_leaves_the_rest():
    independent, paired = (
        Diffusion(Config(path="straight", prediction="velocity", coupling=coupling), POINTS, {})
        for coupling in ("independent", "optimal-transport")
    )
    x = KeyedNoise(1, torch.arange(64), "x").normal(2)
    eps = KeyedNoise(0, torch.arange(64), "loss").fork("eps").normal(2)
    # A network starts at zero: the loss is the mean squared distance of a row and its noise.
    assert independent.loss(turn(x)).terms["simple"].item() == pytest.approx((eps - x).square().mean().item())
    best = (eps[optimal_pairs(x, eps)] - x).square().mean().item()
    assert paired.loss(turn(x)).terms["simple"].item() == pytest.approx(best)
    assert best < 0.2 * (eps - x).square().mean().item()


def test_optimal_transport_keeps_to_the_labels_of_the_batch():
    space = Space(POINTS.shape, classes=2)
    model = Diffusion(Config(path="straight", prediction="velocity", coupling="optimal-transport"), space, {})
    x, label = KeyedNoise(1, torch.arange(64), "x").normal(2), torch.arange(64) % 2
    given = turn(x)
    given = given._replace(batch=replace(given.batch, condition=Condition(label=label)))
    eps = KeyedNoise(0, torch.arange(64), "loss").fork("eps").normal(2)
    best = (eps[optimal_pairs(x, eps, label)] - x).square().mean().item()
    assert model.loss(given).terms["simple"].item() == pytest.approx(best)
    assert best != pytest.approx((eps[optimal_pairs(x, eps)] - x).square().mean().item())


def test_learned_variances_are_between_the_two_in_logarithms_and_trained_alone_by_the_bound():
    path = {"name": "linear-betas", "steps": 10, "first": 0.01, "last": 0.3}
    model = Diffusion(Config(path=path, learned_variance=True), POINTS, {})
    x = torch.randn(6, 2, dtype=torch.float64)
    mean = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    share = torch.rand(6, 2, dtype=torch.float64, requires_grad=True)
    step = torch.tensor([2, 3, 5, 7, 9, 10])
    value = model.chain.divergence_of(LearnedStep(mean, share), x, step)
    q = backward(model.path, step.double() / 10, (step.double() - 1) / 10)
    given = torch.exp(share * torch.log(q.fresh)[:, None] + (1 - share) * torch.log(q.variance)[:, None])
    b, tilde = q.b[:, None], q.variance[:, None]
    kl = gaussian_kl(b * x, torch.log(tilde) / 2, b * mean, torch.log(given) / 2).sum(1)
    torch.testing.assert_close(value, kl)
    # L_hybrid: with its weight at 0 the head of the variance, the second half of the outputs, learns nothing.
    for weight, learns in ((0.0, False), (0.001, True)):
        config = model.config.model_copy(update={"bound_weight": weight})
        model = Diffusion(config, POINTS, {})
        sum(model.loss(turn(torch.randn(64, 2))).terms.values()).backward()
        gradient = model.network.head.weight.grad
        assert bool(gradient[2:].ne(0).any()) == learns
        assert bool(gradient[:2].ne(0).any())


def test_clipping_keeps_the_learned_variance():
    model = Diffusion(Config(learned_variance=True), POINTS, {})
    x = 3 * torch.randn(4, 2)
    found = Clip(model).denoise(x, torch.full((4,), 0.01))
    assert isinstance(found, LearnedStep)
    assert found.mean.abs().max() == 1
    assert bool((found.step_variance == 0.5).all())  # of a network that starts at zero


def test_the_bounds_gradient_is_finite_where_a_bin_is_far_from_the_mean():
    """Rows of late steps have means far from x_0; the first step's likelihood, of levels, must not see them."""
    space = Space((2,), depth=256)
    model = Diffusion(Config(learned_variance=True), space, {})
    share = torch.zeros(3, 2, requires_grad=True)
    posterior = LearnedStep(torch.tensor([[1.0, -1.0], [3e4, -8e5], [-4e6, 0.0]]), share)
    x = torch.tensor([[1.0, -1.0], [1.0, -1.0], [0.0, 1.0]]) * 254 / 255 + 1 / 255
    model.chain.term(posterior, x, torch.tensor([1, 500, 1000]), 256).sum().backward()
    assert bool(torch.isfinite(share.grad).all())


def test_a_learned_schedule_falls_and_its_parts_get_their_own_gradients():
    """Ends: of the mean of the bound's rows; between them: of the mean square, by autograd."""
    schedule = LearnedSchedule(-8.0, 4.0).double()
    with torch.no_grad():
        schedule.heights.uniform_(-1, 1)
    t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64).requires_grad_()
    gamma, fall = schedule.at(t)
    (slope,) = torch.autograd.grad(gamma.sum(), t, retain_graph=True)
    torch.testing.assert_close(fall, slope)
    torch.testing.assert_close(schedule.at(torch.tensor([0.0, 1.0]).double())[0].tolist(), [-8.0, 4.0])

    def rows(gamma, fall):
        return fall * torch.sin(gamma / 3).square()

    inner = [schedule.straight, schedule.heights, schedule.slopes, schedule.places]
    values = rows(*schedule.at(t))
    (of_ends,) = torch.autograd.grad(values.mean(), [schedule.ends], retain_graph=True)
    of_inner = torch.autograd.grad(values.square().mean(), inner)
    gamma, fall, settle = schedule.steadied(t)
    values = rows(gamma, fall)
    settle(values)
    values.mean().backward()
    torch.testing.assert_close(schedule.ends.grad, of_ends)
    for parameter, wanted in zip(inner, of_inner, strict=True):
        torch.testing.assert_close(parameter.grad, wanted)


def test_the_bounds_loss_is_the_bound():
    """Its three terms, a value each; their sum has a standard error of 0.03."""
    path = {"name": "learned", "first": -6.0, "last": 3.0}
    model = create(path, weighting="bound", drop_label=0.0)
    x = MEAN + KeyedNoise(3, torch.arange(10_000), "x").normal(2).double() @ torch.linalg.cholesky(COVARIANCE).T
    loss = model.loss(turn(x))
    assert set(loss.terms) == {"diffusion", "prior", "reconstruction"}
    assert sum(loss.terms.values()).item() == pytest.approx(-continuous_closed_form() / 2, abs=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "cosine"}, "prediction=eps says nothing of x_0 in pure noise"),
        ({"weighting": "bound", "path": "edm"}, "weighting=bound needs a path of T steps .* or some noise at t = 0"),
        ({"weighting": "bound", "coupling": "optimal-transport"}, "weighting=bound .* noise knows nothing of its row"),
        ({"learned_variance": True, "coupling": "optimal-transport"}, "learned_variance is trained by a bound"),
        ({"path": "learned"}, "path=learned is trained by weighting=bound"),
        ({"path": "edm", "learned_variance": True}, "learned_variance needs a path of T steps"),
        ({"path": "ddpm"}, "no path 'ddpm'"),
        ({"path": {"largest": 20}}, "name the path beside its options"),
    ],
)
def test_choices_that_do_not_go_together_are_named(changes, message):
    with pytest.raises(RequestError, match=message):
        Diffusion(Config.read(changes, "model"), POINTS, {})


def test_more_steps_than_levels_are_refused():
    model = create({"name": "noise-levels", "steps": 10}, prediction="score")
    with pytest.raises(RequestError, match="more than this model's T = 10"):
        model.sample(KeyedNoise(0, torch.arange(2), "s"), how=Sampling(steps=11))


def test_ddpm_and_flow_matching_are_two_of_its_choices():
    """The same network, rows and noise give the same loss and the same samples."""
    flow = FlowConfig(times="logit-normal", location=0.6)
    times = Times(name="logit-normal", location=0.6)
    for other, config in (
        (DDPM(DDPMConfig(), POINTS, {}), Config()),
        (FlowMatching(flow, POINTS, {}), Config(path="straight", prediction="velocity", times=times)),
    ):
        model = Diffusion(config, POINTS, {})
        with torch.no_grad():
            other.network.head.weight.normal_()
        model.network.load_state_dict(other.network.state_dict())
        x = torch.randn(64, 2)
        losses = [sum(m.loss(turn(x)).terms.values()) for m in (model, other)]
        torch.testing.assert_close(*losses, rtol=1e-6, atol=0)
        assert losses[0] > 0.5
        how = {"steps": 7, "solver": "heun"}
        pair = (model, other)
        samples = [m.sample(KeyedNoise(0, torch.arange(5), "s"), how=type(m.config.sampling)(**how)) for m in pair]
        torch.testing.assert_close(*samples, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("own", ["linear-betas", "straight", "edm"])
@pytest.mark.parametrize("other", ["cosine", "straight", {"name": "edm", "largest": 100.0}], ids=str)
def test_samples_drawn_along_another_path_are_those_of_the_models_own(own, other):
    """From the same noise the flow ends in the same rows, wherever it runs; even steps, even on the other path."""
    model = create(own, prediction="x0")
    how = Sampling(steps=100, solver="heun", grid="karras", clip=False)
    noise = KeyedNoise(0, torch.arange(200), "s")
    x = model.sample(noise, None, how)
    y = model.sample(KeyedNoise(0, torch.arange(200), "s"), None, Sampling(**{**how.model_dump(), "path": other}))
    torch.testing.assert_close(x, y, rtol=0, atol=0.03)
    if own == "linear-betas":
        many = Sampling(steps=1500, path=other)
        assert len(model._grid(many)) == 1501, "a path of T steps is no bound on those of another"
        with pytest.raises(RequestError, match="more than this model's T"):
            model._grid(Sampling(steps=1500))


@pytest.mark.parametrize("name", ["ddpm", "flow-matching"])
def test_the_path_of_samples_is_a_choice_of_sampling(name):
    """The network is asked at the times of equal noise, of rows in its own scale."""
    model = reverie.create(name, POINTS)
    seen = []

    class Records(nn.Module):
        def forward(self, x, t, condition=None, residuals=()):
            seen.append((x, t))
            return torch.zeros_like(x)

    model.network = Records()
    how = type(model.config.sampling).read({"steps": 4, "solver": "euler", "path": "variance-preserving"}, "")
    assert type(how).read(how.model_dump(), "") == how
    model.sample(KeyedNoise(0, torch.arange(5000), "s"), None, how)
    for (_, t), time in zip(seen, (1.0, 0.75, 0.5, 0.25), strict=True):
        ratios = [torch.log(a / s) for a, s in (model.path(t[:1].double()), how.path(torch.tensor([time]).double()))]
        if time < 1:
            torch.testing.assert_close(*ratios, atol=0.02, rtol=0)
    assert seen[0][0].std().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("build", [(Diffusion, Config), (DDPM, DDPMConfig)], ids=["diffusion", "ddpm"])
def test_steps_along_another_path_may_be_more_than_the_levels_and_latents_take_the_models_own(build):
    """A path of 12 steps: samples in 40 along another, latents in the 12 that there are."""
    torch.manual_seed(0)
    steps = (
        {"steps": 12, "bound_times": 2} if build[1] is DDPMConfig else {"path": {"name": "linear-betas", "steps": 12}}
    )
    many, own = ({"sampling": sampling} for sampling in ({"steps": 40, "path": "straight"}, {"steps": 12}))
    models = [build[0](build[1].read({"network": "mlp", **steps, **how}, "model"), POINTS, {}) for how in (many, own)]
    models[1].load_state_dict(models[0].state_dict())
    x = torch.randn(5, 2)
    assert models[0].players(), "what a recipe may say is no fault"
    assert models[0].sample(KeyedNoise(0, torch.arange(5), "s")).isfinite().all()
    (z,), (same,) = (model.encode(x) for model in models)
    assert torch.equal(z, same)
    assert torch.equal(models[0].decode((z,)), models[1].decode((z,)))


def test_samples_of_points_stay_where_the_rows_of_training_are(tmp_path):
    """From a network that has learnt nothing, at the end of a path where 1 / alpha is 20,000; stored with the run."""
    changes = {"train.steps": 1, "train.time": None, "train.batch": 8, "train.grids": 0}
    run = reverie.train("improved-ddpm", "ring", out=tmp_path / "run", changes=changes, quiet=True)
    model, rows = reverie.load(run), open_data(DataConfig(source="ring")).train
    points = rows.pixels(np.arange(len(rows)))
    assert model.space.within == model.space.range == (points.min(), points.max())
    how = model.config.sampling.model_copy(update={"steps": 20})
    x = reverie.sample(model, 200, how=how).x
    assert x.min() >= points.min()
    assert x.max() <= points.max()
    free = reverie.sample(model, 200, how=how.model_copy(update={"clip": False})).x
    assert free.abs().max() > 100
    (z,) = model.encode(x)
    assert model.decode((z,)).abs().max() < 1.1
