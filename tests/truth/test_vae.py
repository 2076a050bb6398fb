"""The VAE's bound against the exact likelihood of a linear Gaussian model, and its likelihoods by kind of data."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from reverie.core.batch import Batch, Condition
from reverie.core.choice import Choice
from reverie.core.errors import RequestError
from reverie.core.noise import KeyedNoise
from reverie.core.player import Progress, Turn
from reverie.core.space import Space
from reverie.models.vae.vae import LOG_SIGMA, VAE, Config, Sampling, likelihood_kind

SIGMA = 0.6


def linear_model(optimal: bool) -> tuple[VAE, MultivariateNormal]:
    """p(x|z) = N(W z + b, sigma^2); W's columns are orthogonal, so N(M^-1 W^T (x - b), sigma^2 M^-1) factorises."""
    linear = Choice(name="mlp", options={"hidden": []})
    model = VAE(Config(latent=2, encoder=linear, decoder=linear), Space((3,)), {})
    w = torch.tensor([[1.0, 0.5], [1.0, -0.5], [0.3, 0.0]]) * torch.tensor([1.0, 2.0])
    b = torch.tensor([0.2, -1.0, 0.5])
    m = w.T @ w + SIGMA**2 * torch.eye(2)
    assert m[0, 1] == 0.0
    encoder, decoder = model.encoder.layers[0], model.decoder.layers[0]
    with torch.no_grad():
        decoder.weight.copy_(torch.cat([w, torch.zeros(3, 2)]))
        decoder.bias.copy_(torch.cat([b, torch.full((3,), math.log(SIGMA))]))
        mean = torch.linalg.inv(m) @ w.T * (1.0 if optimal else 0.7)
        encoder.weight.copy_(torch.cat([mean, torch.zeros(2, 3)]))
        encoder.bias.copy_(torch.cat([-mean @ b, 0.5 * torch.log(SIGMA**2 / m.diagonal())]))
    return model.eval(), MultivariateNormal(b, w @ w.T + SIGMA**2 * torch.eye(3))


def averaged_elbo(model: VAE, x: Tensor, draws: int) -> Tensor:
    rows = x.repeat_interleave(draws, 0)
    return model.elbo(rows, KeyedNoise(0, torch.arange(len(rows)))).view(len(x), draws).mean(1)


@torch.no_grad()
def test_bound_is_tight_at_the_exact_posterior() -> None:
    model, exact = linear_model(optimal=True)
    x = exact.sample((20,)) * 1.5
    log_p = exact.log_prob(x)
    torch.testing.assert_close(averaged_elbo(model, x, 20_000), log_p, atol=0.03, rtol=0)
    # At the exact posterior log p(x|z) + log p(z) - log q(z|x) = log p(x), for every single z.
    z, log_q = model.posterior(x, KeyedNoise(3, torch.arange(20)))
    prior = MultivariateNormal(torch.zeros(2), torch.eye(2)).log_prob(z[0])
    torch.testing.assert_close(model.likelihood(x, z) + prior - log_q, log_p, atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_bound_lies_below_by_the_divergence_of_the_posteriors() -> None:
    model, exact = linear_model(optimal=False)
    better, _ = linear_model(optimal=True)
    x = exact.sample((20,)) * 1.5
    (mean,), (best,) = model.encode(x), better.encode(x)
    sigma = better._encode(x, None)[1].exp()
    gap = 0.5 * ((mean - best) / sigma).square().sum(1)  # KL of two Gaussians of the same covariance
    assert gap.max() > 0.5
    torch.testing.assert_close(averaged_elbo(model, x, 20_000), exact.log_prob(x) - gap, atol=0.08, rtol=0)


@torch.no_grad()
def test_loss_is_the_negative_bound() -> None:
    model = VAE(Config(), Space((1, 9, 12), depth=2), {})
    x = torch.randint(0, 2, (6, 1, 9, 12)).float() * 2 - 1
    ids = torch.arange(6)
    noise = KeyedNoise(1, ids, "loss")
    loss = model.loss(Turn(Batch(x, Condition(), ids, ids), noise, Progress()))
    elbo = model.elbo(x, KeyedNoise(1, ids, "loss")).mean()
    torch.testing.assert_close(sum(loss.terms.values()), -elbo)
    torch.testing.assert_close(loss.figures["bits_per_dim"], -elbo / (9 * 12 * math.log(2)))


@torch.no_grad()
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 7, 21), (3, 1, 1)])
def test_byte_images_of_any_size(shape: tuple[int, int, int]) -> None:
    model = VAE(Config(), Space(shape, depth=256, classes=4), {}).eval()
    noise = KeyedNoise(0, torch.arange(2))
    x = model.sample(noise, Condition(label=torch.tensor([3, -1])), Sampling(pixels="sample"))
    assert x.shape == (2, *shape)
    assert torch.equal(x, torch.round((x + 1) * 127.5) / 127.5 - 1)  # on the levels of bytes
    assert model.elbo(x, noise).shape == (2,)
    assert model.decode(model.encode(x)).shape == x.shape


@torch.no_grad()
def test_single_pixel_likelihood_sums_to_one_over_bytes() -> None:
    model = VAE(Config(latent=3), Space((1, 1, 1), depth=256), {}).eval()
    x = (torch.arange(256.0) / 127.5 - 1).view(256, 1, 1, 1)
    z = torch.randn(1, 3).expand(256, 3)
    assert model.likelihood(x, (z,)).exp().sum().item() == pytest.approx(1.0, abs=1e-4)


def test_gaussian_bound_on_bytes_counts_the_bins() -> None:
    # Under a broad Gaussian the probability of one byte is its bin, 2/255, times the density.
    model = VAE(Config(likelihood="gaussian"), Space((1, 4, 4), depth=256), {}).eval()
    parameters = torch.zeros(1, 2, 1, 4, 4)
    density = -0.5 * math.log(2 * math.pi)
    found = model._log_likelihood(torch.zeros(1, 1, 4, 4), parameters).item()
    assert found == pytest.approx(16 * (density + math.log(2 / 255)), rel=1e-6)


def test_likelihood_follows_the_data() -> None:
    assert likelihood_kind("auto", Space((1, 8, 8), depth=2)) == "bernoulli"
    assert likelihood_kind("auto", Space((1, 8, 8), depth=256)) == "logistic"
    assert likelihood_kind("auto", Space((2,))) == "gaussian"
    with pytest.raises(RequestError, match="binarize"):
        likelihood_kind("bernoulli", Space((1, 8, 8), depth=256))
    assert LOG_SIGMA[0] < math.log(1 / 255) < LOG_SIGMA[1]


def test_temperature_zero_decodes_the_prior_mean() -> None:
    model = VAE(Config(), Space((1, 8, 8), depth=2), {}).eval()
    with torch.no_grad():
        x = model.sample(KeyedNoise(0, torch.arange(3)), None, Sampling(temperature=0.0))
        torch.testing.assert_close(x, model.decode((torch.zeros(3, 32),)))
