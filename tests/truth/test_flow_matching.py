"""Flow matching on Gaussian data: its loss at the optimum, its likelihood through the flow, its samples."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from reverie.core.batch import Batch, Condition
from reverie.core.errors import RequestError
from reverie.core.noise import KeyedNoise
from reverie.core.player import Progress, Turn
from reverie.core.sampling import sample
from reverie.core.space import Space
from reverie.maths.paths import Straight, per_row
from reverie.maths.posteriors import GaussianData
from reverie.models.diffusion.flow_matching import Config, FlowMatching, Likelihood, Sampling
from reverie.samplers.euler import Euler
from reverie.samplers.likelihood import basis, log_likelihood, signs, with_divergence
from reverie.training.build import create

MEAN = torch.tensor([0.3, -0.2], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.5, 0.2], [0.2, 0.3]], dtype=torch.float64)


class ExactVelocity(nn.Module):
    """The network that predicts E[eps - x_0 | x_t] of Gaussian data, from x_t as the model scales it."""

    def __init__(self) -> None:
        super().__init__()
        self.data = GaussianData(Straight(), MEAN, COVARIANCE)

    def forward(self, x, t, condition=None, residuals=()):
        alpha, sigma = (per_row(a, x) for a in Straight()(t))
        x_t = x * torch.sqrt(alpha**2 + sigma**2)
        x_0 = self.data.denoise(x_t, t).mean
        marginal = (alpha**2)[..., None] * COVARIANCE + (sigma**2)[..., None] * torch.eye(2)
        eps = sigma * torch.linalg.solve(marginal, (x_t - alpha * MEAN)[..., None])[..., 0]
        return eps - x_0


def exact_model(**changes: object) -> FlowMatching:
    model = FlowMatching(Config(**changes), Space((2,)), {})
    model.network = ExactVelocity()
    return model


def rows(count: int) -> torch.Tensor:
    z = KeyedNoise(0, torch.arange(count), "data").normal(2).double()
    return MEAN + z @ torch.linalg.cholesky(COVARIANCE).T


def test_log_prob_is_the_gaussians_own():
    x = torch.cat([rows(30), torch.tensor([[2.0, -2.0]]).double()])
    exact = torch.distributions.MultivariateNormal(MEAN, COVARIANCE).log_prob(x)
    value = exact_model().log_prob(x)
    assert not value.requires_grad
    assert ((value - exact) / 2).abs().max() < 1e-3
    with torch.no_grad():  # evaluators compute without gradients: the divergence must not care
        torch.testing.assert_close(exact_model().log_prob(x), value)


def test_the_flows_order_is_four():
    x = rows(10)
    exact = torch.distributions.MultivariateNormal(MEAN, COVARIANCE).log_prob(x)
    values = [exact_model(likelihood=Likelihood(steps=steps)).log_prob(x) for steps in (32, 64, 128)]
    errors = [(value - exact).abs().max().item() for value in values]
    assert math.log(errors[1] / errors[2], 2) == pytest.approx(4, abs=0.4), errors


def nonlinear(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """A velocity whose Jacobian is neither symmetric nor constant."""
    mixing = torch.tensor([[0.3, -1.1, 0.4], [0.8, 0.2, -0.5], [-0.2, 0.9, 0.6]], dtype=torch.float64)
    return torch.tanh(x @ mixing) * (1 + t[:, None])


def test_divergences_are_the_jacobians_trace():
    x = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.linspace(0, 1, 7, dtype=torch.float64)
    u, divergence = with_divergence(nonlinear, x, t, basis(x))
    torch.testing.assert_close(u, nonlinear(x, t))
    for i in range(7):
        jacobian = torch.autograd.functional.jacobian(lambda y, i=i: nonlinear(y[None], t[i : i + 1])[0], x[i])
        assert divergence[i].item() == pytest.approx(jacobian.trace().item(), rel=1e-12)
    # Hutchinson over all 8 sign vectors is the trace itself.
    every = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 3)[:, None].expand(8, 7, 3)
    torch.testing.assert_close(with_divergence(nonlinear, x, t, every)[1] / 8, divergence)


def test_hutchinson_is_unbiased_and_keyed_by_the_row():
    # 4,000 rows that differ in the 12th digit only: the same row for the flow, other keys for the signs.
    x = torch.tensor([[0.4, -0.3, 0.9]]).double() + 1e-6 * torch.arange(4000).double()[:, None]
    exact = log_likelihood(nonlinear, x[:1], steps=4, exact=True).item()
    estimate = log_likelihood(nonlinear, x, steps=4, exact=False)
    standard_error = estimate.std().item() / math.sqrt(len(x))
    assert 0 < standard_error < 0.05
    assert estimate.mean().item() == pytest.approx(exact, abs=4 * standard_error + 1e-2)
    torch.testing.assert_close(log_likelihood(nonlinear, x[7:9], steps=4, exact=False), estimate[7:9])
    assert set(signs(x, 2).unique().tolist()) == {-1.0, 1.0}
    many = log_likelihood(nonlinear, x, steps=4, exact=False, probes=4)
    assert many.std().item() == pytest.approx(estimate.std().item() / 2, rel=0.15)


def test_long_rows_get_the_estimate_and_short_ones_the_exact_trace():
    x = rows(200)
    exact = exact_model().log_prob(x)
    estimate = exact_model(likelihood=Likelihood(exact_up_to=1)).log_prob(x)
    assert (estimate - exact).abs().max() > 1e-3


@pytest.mark.parametrize("times", ["uniform", "logit-normal"])
def test_the_loss_at_the_optimum_is_what_no_network_can_know(times):
    """E Var[eps - x_0 | x_t] over the density of times: 1 / t^2 times the posterior's variance."""
    model, x = exact_model(times=times), rows(40_000)
    ids = torch.arange(len(x))
    loss = model.loss(Turn(Batch(x, Condition(), ids, ids), KeyedNoise(0, ids, "loss"), Progress()))
    t = (torch.arange(4000).double() + 0.5) / 4000
    if times == "logit-normal":
        t = torch.sigmoid(torch.special.ndtri(t))
    variances = torch.linalg.eigvalsh(COVARIANCE)
    a = (1 - t)[:, None]
    unknown = variances / (a**2 * variances + t[:, None] ** 2)  # sigma^2 C / (marginal), over t^2
    assert loss.terms["velocity"].item() == pytest.approx(unknown.mean().item(), rel=0.02)


def test_samples_have_the_datas_moments_and_do_not_depend_on_the_split():
    model = exact_model()
    noise = KeyedNoise(0, torch.arange(20_000), "s")
    model.network.double()
    x = model.sample(noise, how=Sampling(steps=20, solver="heun")).double()
    torch.testing.assert_close(x.mean(0), MEAN, rtol=0, atol=0.02)
    torch.testing.assert_close(torch.cov(x.T), COVARIANCE, rtol=0, atol=0.02)
    part = model.sample(KeyedNoise(0, torch.arange(5, 9), "s"), how=Sampling(steps=20, solver="heun"))
    torch.testing.assert_close(part.double(), x[5:9], rtol=1e-5, atol=1e-5)


def test_denoise_is_the_posterior_mean_at_every_time():
    model, x = exact_model(), rows(6)
    t = torch.tensor([0.0, 0.01, 0.3, 0.6, 0.99, 1.0]).double()
    exact = GaussianData(Straight(), MEAN, COVARIANCE)
    torch.testing.assert_close(model.denoise(x, t).mean, exact.denoise(x, t).mean, rtol=1e-9, atol=1e-9)


def test_encode_and_decode_are_inverse_up_to_the_steps():
    model, x = exact_model(sampling=Sampling(steps=100)), rows(50)
    (z,) = model.encode(x)
    assert (model.decode((z,)) - x).abs().max() < 5e-3
    whitened = torch.linalg.solve(torch.linalg.cholesky(COVARIANCE), (x - MEAN).T).T
    torch.testing.assert_close(z.norm(dim=1), whitened.norm(dim=1), rtol=0, atol=2e-2)


@pytest.mark.parametrize("network", ["unet", "dit"])
def test_other_sizes_are_drawn_from_noise_of_that_size(network):
    """An untrained network answers 0: the flow stands still, and samples are their noise."""
    model = create("flow-matching", Space((1, 16, 16), depth=256), changes={"model.network": network})
    how = model.config.sampling.model_copy(update={"size": 24, "steps": 2, "solver": Euler()})
    x = sample(model, 3, 5, how=how, batch=2, precision="fp32").x
    assert torch.equal(x, KeyedNoise(5, torch.arange(3), "sample").normal(1, 24, 24).clamp(-1, 1))


def test_what_has_its_size_from_elsewhere_takes_no_other():
    points = create("flow-matching", Space((2,)))
    with pytest.raises(RequestError, match="this model draws points"):
        sample(points, 1, how=points.config.sampling.model_copy(update={"size": 24}))
    with pytest.raises(RequestError, match="draws from maps"):
        Space((1, 16, 16), maps=3).at(24)
    flat = create("flow-matching", Space((1, 16, 16)), changes={"model.network.image": "mlp"})
    with pytest.raises(RequestError, match=r"rows of shape \[1, 16, 16\] alone, not \[1, 24, 24\]"):
        sample(flat, 1, how=flat.config.sampling.model_copy(update={"size": 24}))


def test_maps_are_refused_by_what_would_not_look_at_them():
    for recipe in ("dcgan", "vae"):
        with pytest.raises(RequestError, match=r"has no place for data\.maps"):
            create(recipe, Space((1, 16, 16), depth=256, maps=1))
    for network in ("unet", "dit", "mlp"):
        create("flow-matching", Space((1, 16, 16), maps=1), changes={"model.network": network})
