"""DDPM on Gaussian data with the exact denoiser: its bound term by term, and its loss at the optimum."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from reverie.core.batch import Batch, Condition
from reverie.core.choice import Choice
from reverie.core.errors import RequestError
from reverie.core.noise import KeyedNoise
from reverie.core.player import Progress, Turn
from reverie.core.space import Space
from reverie.maths import predictions
from reverie.maths.paths import per_row
from reverie.maths.posteriors import GaussianData
from reverie.models.diffusion.ddpm import DDPM, Config, Sampling

MEAN = torch.tensor([0.3, -0.2], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.5, 0.2], [0.2, 0.3]], dtype=torch.float64)
POINTS = Space((2,))
STEPS = 20
BETAS = (0.01, 0.1)  # few and small, so that the prior term weighs something


class ExactEps(nn.Module):
    """The network that predicts E[eps | x_t] of Gaussian data."""

    def __init__(self, data: GaussianData) -> None:
        super().__init__()
        self.data = data

    def forward(self, x, t, condition=None, residuals=()):
        alpha, sigma = (per_row(a, x) for a in self.data.path(t))
        return predictions.noise(self.data.denoise(x, t).mean, x, alpha, sigma)


def exact_model(space: Space = POINTS, **changes: object) -> DDPM:
    model = DDPM(Config(steps=STEPS, betas=BETAS, **{"bound_times": STEPS - 1, **changes}), space, {})
    if space.shape == (2,):
        model.network = ExactEps(GaussianData(model.path, MEAN, COVARIANCE))
    return model


def rows(count: int, seed: int = 0) -> torch.Tensor:
    z = KeyedNoise(seed, torch.arange(count), "data").normal(2).double()
    return MEAN + z @ torch.linalg.cholesky(COVARIANCE).T


def chain() -> tuple[list[float], list[float]]:
    """beta_1 … beta_T and alpha_bar_0 … alpha_bar_T in plain Python."""
    betas = [BETAS[0] + (BETAS[1] - BETAS[0]) * i / (STEPS - 1) for i in range(STEPS)]
    bars = [1.0]
    for beta in betas:
        bars.append(bars[-1] * (1 - beta))
    return betas, bars


def posterior_variance(bar: float) -> float:
    """E |x_0 - E[x_0 | x_t]|^2: the trace of (C^-1 + bar / (1 - bar) I)^-1."""
    return torch.linalg.inv(torch.linalg.inv(COVARIANCE) + bar / (1 - bar) * torch.eye(2)).trace().item()


def expected_bound() -> tuple[float, float, float]:
    """E over data of the prior term, the inner terms and the reconstruction, each written out with betas."""
    betas, bars = chain()
    size, second = 2, (COVARIANCE.trace() + MEAN @ MEAN).item()
    last = bars[STEPS]
    prior = 0.5 * (size * ((1 - last) - 1 - math.log(1 - last)) + last * second)
    inner = 0.0
    for i in range(2, STEPS + 1):
        beta, now, before = betas[i - 1], bars[i], bars[i - 1]
        tilde = (1 - before) / (1 - now) * beta
        # Equation 55 of the inventory's weights: beta^2 / (2 sigma^2 (1 - beta) (1 - bar)) |eps - eps_theta|^2.
        eps_error = now / (1 - now) * posterior_variance(now)
        inner += 0.5 * size * (math.log(beta / tilde) + tilde / beta - 1)
        inner += beta**2 / (2 * beta * (1 - beta) * (1 - now)) * eps_error
    first = betas[0]
    reconstruction = -0.5 * (size * math.log(2 * math.pi * first) + posterior_variance(bars[1]) / first)
    return prior, inner, reconstruction


def test_the_bound_is_its_closed_form_term_by_term():
    """Every term, averaged over 40,000 rows, within 4 standard errors of the expectation; and below log p."""
    model, x = exact_model(), rows(40_000)
    noise = KeyedNoise(1, torch.arange(len(x)), "bound")
    prior, inner, reconstruction = expected_bound()
    measured = {
        "prior": model.chain.prior(x),
        "reconstruction": model.chain.reconstruction(model, x, noise.fork("first")),
        "all": model.elbo(x, noise),
    }
    expected = {"prior": prior, "reconstruction": reconstruction, "all": -prior - inner + reconstruction}
    for name, value in measured.items():
        standard_error = value.std().item() / math.sqrt(len(x))
        assert standard_error < 0.03, name
        assert value.mean().item() == pytest.approx(expected[name], abs=4 * standard_error), name
    entropy = 0.5 * torch.logdet(2 * math.pi * math.e * COVARIANCE).item()
    assert expected["all"] < -entropy
    assert expected["all"] > -entropy - 0.6


def test_each_inner_term_is_the_divergence_of_two_gaussians():
    """Against torch.distributions, at x_t given by the model's own noise."""
    model, x = exact_model(), rows(5)
    betas, bars = chain()
    for i in (2, 7, STEPS):
        noise, same = (KeyedNoise(2, torch.arange(5), "x") for _ in range(2))
        value = model.chain.divergence(model, x, torch.full((5,), i), noise)
        beta, now, before = betas[i - 1], bars[i], bars[i - 1]
        x_t = math.sqrt(now) * x + math.sqrt(1 - now) * same.normal(2)
        x_hat = model.denoise(x_t, torch.full((5,), i / STEPS).double()).mean

        def mean(x_0, x_t=x_t, beta=beta, now=now, before=before):
            return (math.sqrt(before) * beta * x_0 + math.sqrt(1 - beta) * (1 - before) * x_t) / (1 - now)

        q = torch.distributions.Normal(mean(x), math.sqrt((1 - before) / (1 - now) * beta))
        p = torch.distributions.Normal(mean(x_hat), math.sqrt(beta))
        torch.testing.assert_close(value, torch.distributions.kl_divergence(q, p).sum(1), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("times", [1, 4])
def test_a_bound_of_few_times_is_unbiased(times):
    x = rows(1).expand(40_000, 2)
    ids = torch.arange(len(x))
    few = exact_model(bound_times=times).elbo(x, KeyedNoise(3, ids, "few"))
    every = exact_model().elbo(x, KeyedNoise(4, ids, "every"))
    standard_error = math.hypot(few.std().item(), every.std().item()) / math.sqrt(len(x))
    assert standard_error < 0.03
    assert few.mean().item() == pytest.approx(every.mean().item(), abs=4 * standard_error)


def test_every_step_is_evaluated_once_where_all_are_asked_for():
    drawn = list(exact_model().chain.inner_steps(KeyedNoise(0, torch.arange(3), "times")))
    assert torch.equal(torch.stack([s for s, _ in drawn]), torch.arange(2, STEPS + 1)[:, None].expand(-1, 3))
    torch.testing.assert_close(torch.stack([w for _, w in drawn]), torch.ones(STEPS - 1, 3))


def test_the_bound_of_bytes_is_a_probability_of_bytes():
    """With a network that says "no noise", one pixel of 4 levels, T = 2: the bound is below 0 and below log p.

    Its parts are checked elsewhere; here, that discrete rows get the discrete likelihood: levels sum to 1 at x_1.
    """
    space = Space((1,), depth=4)
    model = exact_model(space)
    levels = torch.linspace(-1, 1, 4).view(4, 1)

    class Zero:  # the same x_1 for every level: mean, so only x's own alpha_t x moves it
        ids = torch.arange(4)

        def normal(self, *shape):
            alpha, sigma = model.path(torch.tensor(1 / STEPS))
            return (0.2 - alpha * levels) / sigma

    log_prob = model.chain.reconstruction(model, levels, Zero())
    assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-5)
    bound = model.elbo(levels, KeyedNoise(0, torch.arange(4), "bound"))
    assert bool((bound < 0).all())


def test_the_loss_is_the_error_of_eps_over_uniform_steps():
    """At the exact network L_simple is what none can know: the mean over t of alpha^2 / sigma^2 Var[x_0 | x_t]."""
    model, x = exact_model(), rows(40_000)
    ids = torch.arange(len(x))
    loss = model.loss(Turn(Batch(x, Condition(), ids, ids), KeyedNoise(0, ids, "loss"), Progress()))
    _, bars = chain()
    expected = sum(bar / (1 - bar) * posterior_variance(bar) for bar in bars[1:]) / STEPS / 2
    assert loss.terms["simple"].item() == pytest.approx(expected, rel=0.02)


def test_predictions_train_and_denoise_alike():
    """A network right in its own terms gives the same loss of 0 and the same x_0, whatever it predicts."""
    x = torch.tensor([[0.4, -0.8]]).double().expand(64, 2)
    ids = torch.arange(64)

    class Knows(nn.Module):
        """Knows that all rows are x."""

        def __init__(self, model: DDPM) -> None:
            super().__init__()
            self.path, self.kind = model.path, model.config.prediction

        def forward(self, x_t, t, condition=None, residuals=()):
            alpha, sigma = (per_row(a, x_t) for a in self.path(t.double()))
            eps = (x_t - alpha * x) / sigma
            return {"eps": eps, "x0": x, "v": alpha * eps - sigma * x, "velocity": eps - x}[self.kind]

    for prediction in ("eps", "x0", "v", "velocity"):
        model = DDPM(Config(prediction=prediction), Space((2,)), {})
        model.network = Knows(model)
        turn = Turn(Batch(x, Condition(), ids, ids), KeyedNoise(0, ids, "loss"), Progress())
        assert model.loss(turn).terms["simple"].item() < 1e-6
        sample = model.sample(KeyedNoise(0, ids, "s"), how=Sampling(steps=10))
        torch.testing.assert_close(sample.double(), x, rtol=1e-4, atol=1e-4)


def test_wrong_requests_are_named():
    with pytest.raises(RequestError, match="more than this model's T = 20"):
        exact_model().sample(KeyedNoise(0, torch.arange(1), "s"), how=Sampling(steps=21))
    with pytest.raises(RequestError, match="bound_times = 20"):
        exact_model(bound_times=STEPS)
    with pytest.raises(RequestError, match="not integers"):
        DDPM(Config(network=Choice(name="mlp")), Space((2,), levels=3), {})


def test_encode_and_decode_are_inverse_up_to_the_steps():
    model = DDPM(Config(sampling=Sampling(steps=500)), Space((2,)), {})
    model.network = ExactEps(GaussianData(model.path, MEAN, COVARIANCE))
    x = rows(50)
    (z,) = model.encode(x)
    assert (model.decode((z,)) - x).abs().max() < 0.05
    assert torch.cov(z.T).diagonal().mean().item() == pytest.approx(1, abs=0.4)
