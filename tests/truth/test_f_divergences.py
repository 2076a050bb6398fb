"""f-divergences: conjugates against numerical suprema, best critics against f'(p / q), bounds against quadrature."""

import math

import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import lambertw
from torch import Tensor, nn

from reverie.core.batch import Condition
from reverie.maths.adversarial import objective
from reverie.maths.f_divergences import DIVERGENCES, lambert_w_of_exp, weighted_jensen_shannon
from reverie.nn.unrolled import ahead

P = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
Q = torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64)


def inside(name: str) -> Tensor:
    """Points of the conjugate's domain, reached by the activation from logits of both signs."""
    low, high = DIVERGENCES[name].domain
    t = DIVERGENCES[name].activation(torch.linspace(-1.9, 2.0, 14, dtype=torch.float64))
    assert bool((t >= low).all())
    assert bool((t <= high).all())
    return t


@pytest.mark.parametrize("name", DIVERGENCES)
def test_conjugate_is_the_supremum(name: str) -> None:
    divergence = DIVERGENCES[name]
    for t, found in zip(inside(name), divergence.conjugate(inside(name)), strict=True):

        def below(log_u: float, t: float = float(t)) -> float:
            u = torch.tensor(math.exp(log_u), dtype=torch.float64)
            return float(divergence.f(u) - u * t)

        starts = [
            minimize_scalar(below, bounds=(a, a + 6), method="bounded", options={"xatol": 1e-12})
            for a in (-30, -12, -6, -3, 0, 3)
        ]
        assert float(found) == pytest.approx(-min(s.fun for s in starts), rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_composed_form_is_the_conjugate_of_the_activation(name: str) -> None:
    divergence = DIVERGENCES[name]
    v = torch.linspace(-6, 6, 41, dtype=torch.float64, requires_grad=True)
    whole, steps = divergence.composed(v), divergence.conjugate(divergence.activation(v))
    assert torch.allclose(whole, steps, rtol=1e-9, atol=1e-9)
    one, two = (torch.autograd.grad(x.sum(), v, retain_graph=True)[0] for x in (whole, steps))
    assert torch.allclose(one, two, rtol=1e-7, atol=1e-9)
    assert bool((torch.autograd.grad(divergence.activation(v).sum(), v)[0] > 0).all()), "g_f must rise"
    # The derivative of f* at t = f'(u) is u again.
    u = torch.tensor([0.3, 0.9, 1.7], dtype=torch.float64)
    if name != "total-variation":  # whose f has a corner
        t = divergence.slope(u).requires_grad_()
        assert torch.allclose(torch.autograd.grad(divergence.conjugate(t).sum(), t)[0], u, rtol=1e-9)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_composed_form_keeps_its_digits_in_float32(name: str) -> None:
    """At logits where the conjugate of the activation is already inf or nan."""
    v = torch.tensor([-30.0, 30.0])
    exact = DIVERGENCES[name].composed(v.double())
    assert torch.allclose(DIVERGENCES[name].composed(v).double(), exact, rtol=1e-4)
    if name == "jensen-shannon":
        assert not torch.isfinite(DIVERGENCES[name].conjugate(DIVERGENCES[name].activation(v)))[1]


def test_lambert_w() -> None:
    s = torch.tensor([-40.0, -3.0, 0.0, 1.0, 1.5, 20.0, 600.0], dtype=torch.float64, requires_grad=True)
    w = lambert_w_of_exp(s)
    known = torch.tensor([float(lambertw(math.exp(v)).real) for v in s.detach()[:-1]], dtype=torch.float64)
    assert torch.allclose(w[:-1], known, rtol=1e-13)
    assert (w[-1] + w[-1].log()).item() == pytest.approx(600.0, rel=1e-14)
    (slope,) = torch.autograd.grad(w.sum(), s, create_graph=True)
    assert torch.allclose(slope, w / (1 + w), rtol=1e-12)
    (bend,) = torch.autograd.grad(slope.sum(), s, create_graph=True)
    assert torch.allclose(bend, w / (1 + w) ** 3, rtol=1e-12)
    (third,) = torch.autograd.grad(bend.sum(), s)
    assert torch.allclose(third, w * (1 - 2 * w) / (1 + w) ** 5, rtol=1e-12)
    inner = s.detach()[1:-1].requires_grad_()
    assert torch.autograd.gradcheck(lambert_w_of_exp, (inner,))
    assert torch.autograd.gradgradcheck(lambert_w_of_exp, (inner,))
    half = s.detach().float()
    assert torch.allclose(lambert_w_of_exp(half).double(), w, rtol=1e-6)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_generator_can_look_ahead_in_every_f_gan(name: str) -> None:
    """Through two steps of D, by finite differences: the game of D is differentiated twice."""
    torch.manual_seed(0)
    critic, game = nn.Linear(2, 1).double(), objective(f"fgan-{name}")
    x, y = torch.randn(2, 3, 2, dtype=torch.float64)

    class Score(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.critic = critic

        def forward(self, rows: Tensor, condition: Condition) -> Tensor:
            return self.critic(rows)[:, 0]

    def answer(y: Tensor) -> Tensor:
        judge = ahead(Score(), lambda j: game.discriminator(j(x, Condition()), j(y, Condition())).mean(), 2, 0.1)
        return game.generator(judge(x, Condition()), judge(y, Condition())).mean()

    y.requires_grad_()
    assert torch.autograd.gradcheck(answer, (y,))


@pytest.mark.parametrize("name", DIVERGENCES)
def test_best_discriminator_is_the_slope_at_the_ratio(name: str) -> None:
    """On three points: the objective's optimum is T = f'(p / q), and its value minus the divergence."""
    divergence = DIVERGENCES[name]
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    rule = torch.optim.LBFGS(
        [logits], max_iter=800, tolerance_grad=1e-11, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        return (P[:, None] * Q * objective(f"fgan-{name}").discriminator(logits[:, None], logits[None, :])).sum()

    def closure() -> Tensor:
        rule.zero_grad()
        value = loss()
        value.backward()
        return value

    rule.step(closure)
    close = 1e-3 if name == "total-variation" else 1e-5  # reached only in the limit of large logits
    assert torch.allclose(divergence.activation(logits.detach()), divergence.slope(P / Q), atol=close)
    assert -loss().item() == pytest.approx(float((Q * divergence.f(P / Q)).sum()), abs=1e-3 if close > 1e-4 else 1e-8)


def gaussians(m: float) -> tuple[Tensor, Tensor, Tensor]:
    """Places, and the quadrature weights there of N(m, 1) and N(0, 1)."""
    x = torch.linspace(-9, 9 + m, 1201, dtype=torch.float64)
    p, q = (torch.exp(-0.5 * (x - c) ** 2) / math.sqrt(2 * math.pi) * (x[1] - x[0]) for c in (m, 0.0))
    return x, p, q


def closed_form(name: str, m: float) -> float | None:
    """Of N(m, 1) from N(0, 1)."""
    cdf = 0.5 * (1 + math.erf(m / 2 / math.sqrt(2)))
    return {
        "total-variation": 2 * cdf - 1,
        "kl": m**2 / 2,
        "reverse-kl": m**2 / 2,
        "jeffrey": m**2,
        "pearson": math.exp(m**2) - 1,
        "neyman": math.exp(m**2) - 1,
        "hellinger": 2 - 2 * math.exp(-(m**2) / 8),
    }.get(name)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_trained_critic_measures_the_divergence_of_two_gaussians(name: str) -> None:
    """N(0.8, 1) from N(0, 1): a small network, trained on the GAN's own loss, comes within 2 % from below."""
    divergence = DIVERGENCES[name]
    x, p, q = gaussians(0.8)
    true = float((q * divergence.f(p / q)).sum())
    known = closed_form(name, 0.8)
    assert known is None or true == pytest.approx(known, rel=1e-4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        critic = nn.Sequential(nn.Linear(1, 24), nn.Tanh(), nn.Linear(24, 1)).double()
    rule = torch.optim.LBFGS(critic.parameters(), max_iter=250, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        v = critic(x[:, None])[:, 0]
        game = objective(f"fgan-{name}")
        # Both expectations of one batch: the real side weighs by p, the generated one by q.
        return (
            (p * game.discriminator(v, torch.full_like(v, 0.0))).sum()
            + (q * game.discriminator(torch.full_like(v, 0.0), v)).sum()
            - float(game.discriminator(torch.zeros(1).double(), torch.zeros(1).double()))
        )

    def closure() -> Tensor:
        rule.zero_grad()
        value = loss()
        value.backward()
        return value

    rule.step(closure)
    estimate = -loss().item()
    scale = abs(true) if name != "gan" else true + math.log(4)  # the GAN's own value starts at -log 4
    assert estimate <= true + 1e-6
    assert estimate >= true - 0.02 * scale


@pytest.mark.parametrize("pi", [0.25, 0.5])
def test_a_sure_discriminator_still_has_a_slope(pi: float) -> None:
    """-log (1 - e^-far) is v + log pi for a large logit v: the conjugate rises by 1 - pi."""
    v = torch.tensor([15.0, 19.0, 21.0, 60.0, 75.0, 500.0], requires_grad=True)
    value = weighted_jensen_shannon(pi).composed(v)
    torch.testing.assert_close(value, (1 - pi) * (math.log(1 - pi) + v + math.log(pi)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.autograd.grad(value.sum(), v)[0], torch.full((6,), 1 - pi), rtol=1e-4, atol=0)


def test_divergences_of_the_jensen_shannon_family_by_hand() -> None:
    """Twice Jensen and Shannon's; that less log 4, the GAN's own; pi KL(P | M) + (1 - pi) KL(Q | M)."""

    def kl(a: Tensor, b: Tensor) -> float:
        return float((a * (a / b).log()).sum())

    middle = (P + Q) / 2
    twice = kl(P, middle) + kl(Q, middle)
    mixed = 0.25 * P + 0.75 * Q
    expected = {
        "jensen-shannon": twice,
        "gan": twice - math.log(4),
        "weighted-jensen-shannon": 0.25 * kl(P, mixed) + 0.75 * kl(Q, mixed),
    }
    for name, value in expected.items():
        assert float((Q * DIVERGENCES[name].f(P / Q)).sum()) == pytest.approx(value, rel=1e-12), name


@pytest.mark.parametrize("name", DIVERGENCES)
def test_one_sure_row_does_not_outweigh_all(name: str) -> None:
    """Neither term grows faster than the logit: the slopes are bounded, where the paper's reach e^v."""
    divergence = DIVERGENCES[name]
    bounded = name != "pearson"  # a square, in the paper and here
    for term in (divergence.activation, divergence.composed):
        v = torch.tensor([-1e4, -300.0, -30.0, 30.0, 300.0, 1e4], requires_grad=True)
        (slopes,) = torch.autograd.grad(term(v).sum(), v)
        assert bool(slopes.isfinite().all())
        assert not bounded or float(slopes.abs().max()) <= 4.0
