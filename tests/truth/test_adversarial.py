"""Adversarial objectives against their optima on distributions small enough to solve by hand."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from reverie.core.errors import RequestError
from reverie.maths.adversarial import OBJECTIVES, objective, smoothed
from reverie.maths.f_divergences import DIVERGENCES

P = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
Q = torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64)

# Both losses at the logits D(x) = 2, D(G(z)) = -1, worked out by hand.
LOG = math.log
VALUES = {
    "saturating": (LOG(1 + math.exp(-2)) + LOG(1 + math.exp(-1)), -LOG(1 + math.exp(-1))),
    "non-saturating": (LOG(1 + math.exp(-2)) + LOG(1 + math.exp(-1)), LOG(1 + math.e)),
    "least-squares": (0.5 * (1 + 1), 0.5 * 4),
    "wasserstein": (-3.0, 1.0),
    "hinge": (0.0, 1.0),
    "relativistic": (LOG(1 + math.exp(-3)), LOG(1 + math.exp(3))),
}
# Derivatives of the generator's loss by D(G(z)) at the same logits.
SLOPES = {
    "saturating": -1 / (1 + math.e),
    "non-saturating": -1 / (1 + math.exp(-1)),
    "least-squares": -2.0,
    "wasserstein": -1.0,
    "hinge": -1.0,
    "relativistic": -1 / (1 + math.exp(-3)),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_and_the_slope_that_the_generator_follows(name: str) -> None:
    real = torch.tensor([2.0], dtype=torch.float64)
    fake = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
    game = objective(name)
    assert game.discriminator(real, fake).item() == pytest.approx(VALUES[name][0], abs=1e-12)
    loss = game.generator(real, fake)
    assert loss.item() == pytest.approx(VALUES[name][1], abs=1e-12)
    assert torch.autograd.grad(loss.sum(), fake)[0].item() == pytest.approx(SLOPES[name], abs=1e-12)


def best(loss: Callable[[Tensor], Tensor], start: Tensor) -> tuple[Tensor, float]:
    """The minimiser of a convex function, and the minimum."""
    x = start.clone().requires_grad_()
    rule = torch.optim.LBFGS(
        [x], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        rule.zero_grad()
        value = loss(x)
        value.backward()
        return value

    rule.step(closure)
    return x.detach(), loss(x).item()


def jsd(p: Tensor, q: Tensor) -> float:
    m = (p + q) / 2
    return float(0.5 * (p * (p / m).log()).sum() + 0.5 * (q * (q / m).log()).sum())


def expected(name: str, p: Tensor, q: Tensor) -> Callable[[Tensor], Tensor]:
    """E of the discriminator's loss over independent x ~ p and y ~ q, for one free logit for each point."""
    return lambda d: (p[:, None] * q * objective(name).discriminator(d[:, None], d[None, :])).sum()


@pytest.mark.parametrize("name", ["saturating", "non-saturating"])
def test_best_discriminator_measures_jensen_shannon(name: str) -> None:
    """max_D V = 2 JSD - log 4, with (p + q) / 2 in the denominators (the slide's p + q, slip b9, makes this false)."""
    logits, loss = best(expected(name, P, Q), torch.zeros(3, dtype=torch.float64))
    assert torch.allclose(logits, (P / Q).log(), atol=1e-5)
    assert -loss == pytest.approx(2 * jsd(P, Q) - math.log(4), abs=1e-10)
    slip = float((P * (P / (P + Q)).log()).sum() + (Q * (Q / (P + Q)).log()).sum()) - math.log(4)
    assert abs(-loss - slip) > 0.5
    same, loss = best(expected(name, P, P), torch.ones(3, dtype=torch.float64))
    assert torch.allclose(same.sigmoid(), torch.full_like(same, 0.5), atol=1e-6)
    assert -loss == pytest.approx(-math.log(4), abs=1e-12)


@pytest.mark.parametrize("name", ["saturating", "non-saturating"])
def test_smoothing_one_side_scales_the_best_discriminator(name: str) -> None:
    """D* = (1 - s) p / (p + q); with a smoothed fake side too, p_G would stand in the numerator (inventory, 21)."""
    game = smoothed(objective(name), 0.1)
    logits, _ = best(
        lambda d: (P[:, None] * Q * game.discriminator(d[:, None], d[None, :])).sum(), torch.zeros(3).double()
    )
    assert torch.allclose(logits.sigmoid(), 0.9 * P / (P + Q), atol=1e-6)
    fake = torch.randn(4)
    assert torch.equal(game.generator(fake, fake), objective(name).generator(fake, fake))
    with pytest.raises(RequestError, match="cross-entropy"):
        smoothed(objective("hinge"), 0.1)


def test_best_least_squares_discriminator_is_the_posterior() -> None:
    """D* = p / (p + q); what remains is the harmonic sum of p q / (p + q)."""
    values, loss = best(expected("least-squares", P, Q), torch.zeros(3, dtype=torch.float64))
    assert torch.allclose(values, P / (P + Q), atol=1e-6)
    assert loss == pytest.approx(float(0.5 * (P * Q / (P + Q)).sum()), abs=1e-10)


def test_best_hinge_discriminator_measures_total_variation() -> None:
    """D* = sign(p - q), with loss 2 (1 - TV)."""
    signs = torch.sign(P - Q)
    loss = expected("hinge", P, Q)
    assert loss(signs).item() == pytest.approx(2 * (1 - 0.5 * float((P - Q).abs().sum())), abs=1e-12)
    around = [loss(signs + 0.1 * torch.randn(3, dtype=torch.float64)).item() for _ in range(50)]
    assert min(around) >= loss(signs).item()


def test_best_relativistic_discriminator_of_two_points() -> None:
    """For p = (a, 1-a), q = (1-a, a) only pairs of different points count: D(0) - D(1) = 2 log(a / (1-a))."""
    a = 0.8
    p, q = torch.tensor([a, 1 - a], dtype=torch.float64), torch.tensor([1 - a, a], dtype=torch.float64)
    logits, loss = best(expected("relativistic", p, q), torch.zeros(2, dtype=torch.float64))
    gap = 2 * math.log(a / (1 - a))
    assert (logits[0] - logits[1]).item() == pytest.approx(gap, abs=1e-5)
    by_hand = (
        a**2 * math.log1p(math.exp(-gap)) + (1 - a) ** 2 * math.log1p(math.exp(gap)) + 2 * a * (1 - a) * math.log(2)
    )
    assert loss == pytest.approx(by_hand, abs=1e-10)
    _, level = best(expected("relativistic", P, P), torch.randn(3, dtype=torch.float64))
    assert level == pytest.approx(math.log(2), abs=1e-10)


def test_a_sure_discriminator_stops_the_saturating_generator_alone() -> None:
    fake = torch.tensor([-20.0], requires_grad=True)
    slopes = {
        name: torch.autograd.grad(objective(name).generator(torch.zeros(1), fake).sum(), fake)[0].abs().item()
        for name in ("saturating", "non-saturating")
    }
    assert slopes["saturating"] < 1e-8
    assert slopes["non-saturating"] == pytest.approx(1.0, abs=1e-6)


def test_every_objective_is_tested() -> None:
    assert OBJECTIVES.keys() == VALUES.keys() | {f"fgan-{name}" for name in DIVERGENCES}


@pytest.mark.parametrize("name", VALUES)
def test_losses_are_finite_at_any_logit(name: str) -> None:
    """log(sigmoid(-1000)) would be -inf."""
    real, fake = torch.tensor([-1000.0, 1000.0]), torch.tensor([1000.0, -1000.0])
    assert torch.isfinite(objective(name).discriminator(real, fake)).all()
    assert torch.isfinite(objective(name).generator(real, fake)).all()


@pytest.mark.parametrize("name", [name for name, game in OBJECTIVES.items() if not game.paired])
def test_unpaired_generators_do_not_look_at_real_rows(name: str) -> None:
    fake = torch.randn(4)
    assert torch.equal(objective(name).generator(torch.randn(4), fake), objective(name).generator(torch.randn(4), fake))


def test_an_unknown_objective_names_the_nearest() -> None:
    with pytest.raises(RequestError, match="did you mean 'relativistic'"):
        objective("relativistc")
