"""Densities against quadrature, torch.distributions and hand numbers."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from reverie.core.images import from_bytes
from reverie.maths import densities

torch.manual_seed(0)
F64 = torch.float64


def test_gaussian_log_prob_and_kl_equal_torch() -> None:
    x, mean, log_sigma, other, log_other = torch.randn(5, 200, dtype=F64)
    q, p = Normal(mean, log_sigma.exp()), Normal(other, log_other.exp())
    torch.testing.assert_close(densities.gaussian_log_prob(x, mean, log_sigma), q.log_prob(x))
    torch.testing.assert_close(densities.gaussian_kl(mean, log_sigma, other, log_other), kl_divergence(q, p))
    standard = Normal(torch.zeros((), dtype=F64), torch.ones((), dtype=F64))
    torch.testing.assert_close(densities.gaussian_kl(mean, log_sigma), kl_divergence(q, standard))


def test_gaussian_kl_equals_its_integral() -> None:
    mean, log_sigma = torch.tensor(0.7, dtype=F64), torch.tensor(-0.4, dtype=F64)
    z = torch.linspace(-12, 12, 100_001, dtype=F64)
    log_q = densities.gaussian_log_prob(z, mean, log_sigma)
    log_p = densities.gaussian_log_prob(z, torch.zeros_like(z), torch.zeros_like(z))
    integral = torch.trapezoid(log_q.exp() * (log_q - log_p), z)
    assert densities.gaussian_kl(mean, log_sigma).item() == pytest.approx(integral.item(), rel=1e-8)


def test_bernoulli_equals_torch() -> None:
    logits, bits = torch.randn(100, dtype=F64) * 5, (torch.rand(100) < 0.5).to(F64)
    expected = Bernoulli(logits=logits).log_prob(bits)
    torch.testing.assert_close(densities.bernoulli_log_prob(2 * bits - 1, logits), expected)


@pytest.mark.parametrize("depth", [2, 16, 256])
def test_discretised_logistic_sums_to_one(depth: int) -> None:
    mean = torch.tensor([-1.5, -1.0, 0.003, 0.9, 3.0], dtype=F64)[:, None, None]
    log_scale = torch.tensor([-8.0, -5.0, -2.0, 1.0], dtype=F64)[:, None]
    levels = torch.linspace(-1, 1, depth, dtype=F64)
    log_prob = densities.discretised_logistic_log_prob(levels.expand(5, 4, depth), mean, log_scale, depth)
    torch.testing.assert_close(log_prob.exp().sum(-1), torch.ones(5, 4, dtype=F64))


def test_discretised_logistic_is_the_difference_of_distribution_functions() -> None:
    x = from_bytes(torch.tensor([0, 1, 100, 128, 254, 255], dtype=torch.uint8)).to(F64)
    mean, scale = 0.1, 0.2
    low, high = torch.sigmoid((x - 1 / 255 - mean) / scale), torch.sigmoid((x + 1 / 255 - mean) / scale)
    low[0], high[-1] = 0.0, 1.0
    found = densities.discretised_logistic_log_prob(x, torch.tensor(mean), torch.tensor(math.log(scale)), 256)
    torch.testing.assert_close(found, torch.log(high - low))


def test_discretised_logistic_keeps_its_gradient_far_from_the_mean() -> None:
    # 200 scales away sigmoid(b) - sigmoid(a) is 0 in float32; the log is -200 and a little, its slope 1 / scale.
    mean = torch.tensor(0.0, requires_grad=True)
    value = densities.discretised_logistic_log_prob(torch.tensor(127 / 255), mean, torch.tensor(math.log(1 / 400)), 256)
    value.backward()
    exact = -400 * 127 / 255 + math.log(2 * math.sinh(400 / 255))
    assert value.item() == pytest.approx(exact, rel=1e-5)
    assert mean.grad is not None
    assert mean.grad.item() == pytest.approx(400, rel=1e-4)


def test_logistic_quantile_inverts_the_distribution_function() -> None:
    u = torch.linspace(0.01, 0.99, 50, dtype=F64)
    x = densities.logistic_quantile(u, torch.tensor(0.3, dtype=F64), torch.tensor(-1.0, dtype=F64))
    torch.testing.assert_close(torch.sigmoid((x - 0.3) / math.exp(-1)), u)


def test_snap_and_dequantise_stay_in_the_bin() -> None:
    pixels = from_bytes(torch.arange(256, dtype=torch.uint8))
    for u in (0.001, 0.5, 0.999):
        spread = densities.dequantise(pixels, torch.full_like(pixels, u), 256)
        assert torch.equal((densities.snap(spread, 256) + 1).mul(127.5).round(), torch.arange(256.0))
    assert torch.equal(densities.snap(torch.tensor([-3.0, -0.1, 0.1, 2.0]), 2), torch.tensor([-1.0, -1.0, 1.0, 1.0]))


def test_bits_per_dim_of_known_codes() -> None:
    # Uniform bytes cost 8 bits each, whether as probabilities or as a density on bins of width 2/255.
    nats = torch.tensor(-784 * math.log(256))
    assert densities.bits_per_dim(nats, 784).item() == pytest.approx(8.0)
    density = -784 * math.log(256 * 2 / 255)  # uniform over the 256 bins
    assert densities.bits_per_dim(torch.tensor(density + 784 * densities.log_bin(256)), 784).item() == pytest.approx(
        8.0
    )


@pytest.mark.parametrize("scale", [0.002, 0.05, 0.6, 5.0])
def test_the_mean_of_a_cut_logistic_is_that_of_its_levels(scale: float) -> None:
    depth = 256
    levels = torch.linspace(-1.0, 1.0, depth, dtype=torch.float64)
    mean = torch.tensor([-9.0, -1.2, -0.9, 0.0, 0.35, 1.4], dtype=torch.float64)
    log_scale = torch.full_like(mean, math.log(scale))
    p = densities.discretised_logistic_log_prob(levels[:, None], mean, log_scale, depth).exp()
    assert torch.allclose(p.sum(0), torch.ones_like(mean))
    tolerance = 1.0 / (depth - 1) if scale < 0.01 else 1e-4
    assert torch.allclose(densities.cut_logistic_mean(mean, log_scale), (levels[:, None] * p).sum(0), atol=tolerance)
