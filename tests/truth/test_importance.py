"""The importance-weighted bound on a linear Gaussian model, whose likelihood is known."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from reverie.core.noise import KeyedNoise, Noise
from reverie.evaluation.importance import importance_bound


class Linear:
    """x = W z + sigma e, with the true posterior widened by a factor and moved: p(x) = N(0, W W' + sigma^2)."""

    def __init__(self, wide: float, moved: float) -> None:
        self.w = torch.tensor([[1.0, 0.5], [-0.3, 1.2], [0.8, 0.8]], dtype=torch.float64)
        self.sigma, self.wide, self.moved = 0.6, wide, moved
        self.cov = torch.linalg.inv(torch.eye(2, dtype=torch.float64) + self.w.T @ self.w / self.sigma**2)

    def posterior(self, x: Tensor, noise: Noise) -> tuple[tuple[Tensor, ...], Tensor]:
        mean = x @ self.w @ self.cov / self.sigma**2 + self.moved
        q = MultivariateNormal(mean, self.wide * self.cov)
        z = mean + noise.normal(2).double() @ torch.linalg.cholesky(self.wide * self.cov).T
        return (z,), q.log_prob(z)

    def likelihood(self, x: Tensor, z: tuple[Tensor, ...]) -> Tensor:
        return Normal(z[0] @ self.w.T, self.sigma).log_prob(x).sum(1)

    def log_prior(self, z: tuple[Tensor, ...]) -> Tensor:
        return Normal(0.0, 1.0).log_prob(z[0]).sum(1)

    def log_prob(self, x: Tensor) -> Tensor:
        cov = self.w @ self.w.T + self.sigma**2 * torch.eye(3, dtype=torch.float64)
        return MultivariateNormal(torch.zeros(3, dtype=torch.float64), cov).log_prob(x)


def rows(count: int) -> Tensor:
    return 1.5 * torch.randn(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_true_posterior_gives_the_likelihood_with_one_draw() -> None:
    model, x = Linear(1.0, 0.0), rows(5)
    noise = KeyedNoise(0, torch.arange(5))
    for draws in (1, 7):
        assert torch.allclose(importance_bound(model, x, noise, draws), model.log_prob(x), atol=1e-9)


def test_it_rises_from_the_elbo_to_the_likelihood() -> None:
    model, x = Linear(1.5, 0.3), rows(1)
    many, noise = x.expand(20_000, 3), KeyedNoise(0, torch.arange(20_000))
    found = [importance_bound(model, many, noise, draws) for draws in (1, 2, 8, 32)]
    means = [float(bound.mean()) for bound in found]
    # KL(q, p(z | x)) of two Gaussians with one covariance 1.5 times the other.
    shift = torch.full((2,), 0.3, dtype=torch.float64)
    kl = 0.5 * (2 * 1.5 - 2 - 2 * math.log(1.5) + float(shift @ torch.linalg.inv(model.cov) @ shift))
    error = float(found[0].std()) / 20_000**0.5
    assert means[0] == pytest.approx(float(model.log_prob(x)) - kl, abs=4 * error)
    assert means == sorted(means)
    assert means[-1] < float(model.log_prob(x))
    assert means[-1] == pytest.approx(float(model.log_prob(x)), abs=0.03)
