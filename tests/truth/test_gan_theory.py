"""What the theory of GANs says in small cases, by the library's own divergences, distances, players and penalties."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment, linprog
from torch import Tensor, nn

from reverie.core.batch import Batch, Condition
from reverie.core.model import Model, ModelConfig
from reverie.core.noise import KeyedNoise
from reverie.core.player import Loss, OptimizerConfig, Player, Turn
from reverie.core.space import Space
from reverie.evaluation.wasserstein import exact_wasserstein
from reverie.maths.adversarial import objective
from reverie.maths.f_divergences import DIVERGENCES
from reverie.maths.penalties import PLACES, penalty, slope
from reverie.nn.discriminator import mlp
from reverie.nn.history import History
from reverie.training.config import TrainConfig
from reverie.training.loop import Loop
from reverie.training.optimizers import optimizer
from reverie.training.ranks import Ranks

ETA = 0.1
PLAIN = OptimizerConfig(name="sgd", lr=ETA)
TINY = 1e-200  # in place of no probability: what is infinite goes on growing as this falls


def divergence(name: str, p: Tensor, q: Tensor) -> float:
    """D_f of two distributions on the same places."""
    return float((q * DIVERGENCES[name].f(p / q)).sum())


def jsd(p: Tensor, q: Tensor) -> float:
    return 0.5 * divergence("jensen-shannon", p, q)


def test_kl_has_two_sides_and_the_root_of_jsd_is_a_metric() -> None:
    p, q = torch.tensor([0.5, 0.5], dtype=torch.float64), torch.tensor([0.9, 0.1], dtype=torch.float64)
    one, other = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1), 0.9 * math.log(1.8) + 0.1 * math.log(0.2)
    assert divergence("kl", p, q) == pytest.approx(one)
    assert divergence("reverse-kl", p, q) == pytest.approx(other)
    assert divergence("kl", q, p) == pytest.approx(other), "the reverse of one is the other's"
    assert one > 1.3 * other
    m = 0.5 * (p + q)
    assert jsd(p, q) == pytest.approx(0.5 * divergence("kl", p, m) + 0.5 * divergence("kl", q, m))
    rows = torch.softmax(2.0 * torch.randn(300, 4, generator=torch.Generator().manual_seed(0)).double(), 1)
    for a, b, c in rows.view(100, 3, 4):
        assert jsd(a, b) == pytest.approx(jsd(b, a), abs=1e-12)
        assert 0 <= jsd(a, b) <= math.log(2)
        assert math.sqrt(jsd(a, c)) <= math.sqrt(jsd(a, b)) + math.sqrt(jsd(b, c)) + 1e-12
    ends = torch.tensor([[1 - 1e-12, 1e-12], [0.5, 0.5], [1e-12, 1 - 1e-12]], dtype=torch.float64)
    sides = [jsd(ends[0], ends[1]), jsd(ends[1], ends[2]), jsd(ends[0], ends[2])]
    assert sides[2] > sides[0] + sides[1], "without the root it is none"


@pytest.mark.parametrize(("name", "at", "spread"), [("kl", 0.0, math.sqrt(9.25)), ("reverse-kl", 3.0, 0.5)])
def test_kl_covers_modes_and_reverse_kl_picks_one(name: str, at: float, spread: float) -> None:
    """One normal for two modes at -3 and 3 of deviation 1/2: KL takes both moments, the reverse one mode."""
    x = torch.linspace(-12, 12, 2401, dtype=torch.float64)

    def normal(mean: Tensor, sigma: Tensor) -> Tensor:
        weights = torch.exp(-0.5 * ((x - mean) / sigma) ** 2) / sigma + 1e-100
        return weights / weights.sum()

    modes = [normal(torch.tensor(m).double(), torch.tensor(0.5).double()) for m in (-3.0, 3.0)]
    p = 0.5 * (modes[0] + modes[1])
    found = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)  # the mean, and the log of the deviation
    rule = torch.optim.LBFGS([found], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        rule.zero_grad()
        q = normal(found[0], found[1].exp())
        loss = (q * DIVERGENCES[name].f(p / q)).sum()
        loss.backward()
        return loss

    rule.step(closure)
    assert found[0].item() == pytest.approx(at, abs=0.01)
    assert found[1].exp().item() == pytest.approx(spread, rel=0.01)


def test_the_lectures_piles_of_earth() -> None:
    """P = (3, 2, 1, 4) / 10, Q = (1, 2, 4, 3) / 10: what is carried over each gap is 2, 2 and 1, so W1 = 5 / 10."""
    p, q = torch.tensor([3, 2, 1, 4]), torch.tensor([1, 2, 4, 3])
    carried = (p - q).cumsum(0)
    assert carried.tolist() == [2, 2, -1, 0]
    places = torch.arange(4.0)
    piles = [places.repeat_interleave(counts)[:, None] for counts in (p, q)]
    assert exact_wasserstein(*piles) == pytest.approx(0.5) == carried.abs().sum().item() / 10


@pytest.mark.parametrize("theta", [0.0, 0.25, -2.0])
def test_two_parallel_lines(theta: float) -> None:
    """P on x = 0, Q on x = theta, y uniform: only W1 says how far apart they are."""
    y = torch.linspace(0, 1, 64)
    lines = [torch.stack([torch.full_like(y, x), y], 1) for x in (0.0, theta)]
    assert exact_wasserstein(*lines) == pytest.approx(abs(theta), abs=1e-6)
    places = torch.unique(torch.cat(lines), dim=0)
    p, q = ((places[:, None] == line).all(2).double().mean(1).clamp(min=TINY) for line in lines)
    if theta == 0:
        names = ("total-variation", "kl", "reverse-kl", "jensen-shannon")
        assert [divergence(name, p, q) for name in names] == pytest.approx([0.0] * 4, abs=1e-12)
        return
    assert divergence("total-variation", p, q) == pytest.approx(1.0)
    assert jsd(p, q) == pytest.approx(math.log(2))
    for name in ("kl", "reverse-kl"):  # log of a share over none at all
        assert divergence(name, p, q) == pytest.approx(math.log(1 / 64 / TINY), rel=1e-9)


def potential(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """The 1-Lipschitz f of greatest mean over x less mean over y, at x and then y, and that greatest value."""
    both, n = np.concatenate([x, y]), len(x)
    i, j = np.nonzero(~np.eye(2 * n, dtype=bool))
    rows = np.zeros((len(i), 2 * n))
    rows[np.arange(len(i)), i], rows[np.arange(len(i)), j] = 1.0, -1.0
    gain = np.concatenate([np.full(n, -1 / n), np.full(n, 1 / n)])
    apart = np.linalg.norm(both[i] - both[j], axis=1)
    found = linprog(gain, rows, apart, bounds=[(None, None)] * (2 * n))
    return found.x, -found.fun


def test_the_best_critic_has_slope_one_on_the_way_of_every_pair() -> None:
    """Kantorovich and Rubinstein: its value is W1. Gulrajani et al., Corollary 1: it falls by each pair's whole way."""
    x, y = torch.randn(2, 12, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    y = y + torch.tensor([1.5, 0.5])
    f, value = potential(x.numpy(), y.numpy())
    assert value == pytest.approx(exact_wasserstein(x, y), rel=1e-8)
    ways = torch.cdist(x, y).numpy()
    left, right = linear_sum_assignment(ways)
    assert f[left] - f[12 + right] == pytest.approx(ways[left, right], abs=1e-7)
    others = ways - (f[:12, None] - f[None, 12:])
    assert others.min() > -1e-7, "and nowhere by more"
    assert others.max() > 0.5


@pytest.mark.parametrize("weight", [10.0, 1000.0])
def test_the_penalised_critic_is_steeper_than_one_by_the_distance_over_twice_the_weight(weight: float) -> None:
    """Of W1 s - lambda (s - 1)^2 the greatest value is at s = 1 + W1 / 2 lambda: the critic of a shift is linear."""
    noise = KeyedNoise(0, torch.arange(400))
    shift = torch.tensor([3.0, 4.0])
    y = noise.fork("y").normal(2)
    x, w = y + shift, torch.tensor([0.1, 0.1], requires_grad=True)
    assert exact_wasserstein(x, y) == pytest.approx(5.0, rel=1e-6)
    rule = torch.optim.LBFGS([w], max_iter=100, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def closure() -> Tensor:
        rule.zero_grad()
        points = PLACES["between"](x, y, noise, x.std()).detach().requires_grad_()
        steep = penalty("gradient-penalty").measure(slope(points @ w, points)).mean()
        loss = objective("wasserstein").discriminator(x @ w, y @ w).mean() + weight * steep
        loss.backward()
        return loss

    rule.step(closure)
    length = w.detach().norm().item()
    assert length == pytest.approx(1 + 5.0 / (2 * weight), rel=1e-4)
    assert torch.allclose(w.detach() / length, shift / 5.0, atol=1e-3), "it points from generated rows to real ones"
    assert ((x - y) @ w.detach()).mean().item() / length == pytest.approx(5.0, rel=1e-4)


class Circle(Model):
    """J = -x y, which x is to minimise and y to maximise: players that never meet at (0, 0)."""

    def __init__(self, history: float = 0.0) -> None:
        super().__init__(ModelConfig(), Space((1,)), {})
        self.x, self.y = nn.ParameterList([torch.tensor(1.0)]), nn.ParameterList([torch.tensor(0.5)])
        self.history = history
        self.pasts = nn.ModuleList([History(self.x), History(self.y)])

    def players(self) -> Sequence[Player]:
        sides = ((self.x, -1.0, self.pasts[0]), (self.y, 1.0, self.pasts[1]))
        return [self._player(f"player {k}", *side) for k, side in enumerate(sides)]

    def _player(self, name: str, own: nn.ParameterList, sign: float, past: Any) -> Player:
        def loss(turn: Turn) -> Loss:
            return Loss({"game": sign * self.x[0] * self.y[0], "history": self.history * past.distance()})

        return Player(name=name, modules=[own], loss=loss, optimizer=PLAIN, after_turn=lambda _: past.remember())

    def sample(self, noise: Any, condition: Any = None, how: Any = None) -> Tensor:
        return torch.zeros(len(noise.ids), 1)

    @property
    def place(self) -> tuple[float, float]:
        return float(self.x[0].detach()), float(self.y[0].detach())


class Nothing:
    """Batches that nobody looks at."""

    def batch(self, first: int, count: int) -> Batch:
        ids = torch.arange(first, first + count)
        return Batch(torch.zeros(count, 1), Condition(), ids, ids)


def orbit(history: float, rounds: int) -> list[tuple[float, float]]:
    model = Circle(history)
    loop = Loop(model, Nothing(), TrainConfig(batch=2, steps=rounds), Ranks(torch.device("cpu")))
    places = [model.place]
    for _ in range(rounds):
        loop.play_round()
        places.append(model.place)
    return places


def test_players_that_step_at_once_spiral_outwards() -> None:
    """The length grows by sqrt(1 + eta^2) a step: the lecture's orbit is of continuous time alone."""
    x, y = (torch.tensor(v, requires_grad=True) for v in (1.0, 0.5))
    rules = [optimizer(PLAIN, [v]) for v in (x, y)]
    for _ in range(100):
        x.grad, y.grad = -y.detach().clone(), x.detach().clone()
        for rule in rules:
            rule.step()
    length = math.hypot(x.item(), y.item())
    assert length == pytest.approx(math.hypot(1.0, 0.5) * math.sqrt(1 + ETA**2) ** 100, rel=1e-4)


def test_players_that_take_turns_stay_on_an_ellipse() -> None:
    """The loop's own way: x^2 + y^2 + eta x y does not change, so neither does one reach the middle."""
    places = orbit(0.0, 300)
    sizes = [x * x + y * y + ETA * x * y for x, y in places]
    assert sizes == pytest.approx([sizes[0]] * len(sizes), rel=1e-3)
    assert min(math.hypot(*place) for place in places) > 1.0
    assert max(x for x, _ in places[100:]) > 1.0 > -1.0 > min(x for x, _ in places[100:]), "round and round"


def test_historical_averaging_ends_the_circling() -> None:
    start, half, end = (math.hypot(*place) for place in orbit(0.5, 600)[::300])
    assert start == pytest.approx(math.hypot(1.0, 0.5))
    assert end < 0.2 * start
    assert end < 0.8 * half


@pytest.mark.parametrize(("apart", "blur"), [(0.3, 0.0), (0.0, 0.0), (0.3, 1.0)])
def test_manifolds_that_do_not_meet_are_told_apart_without_a_mistake(apart: float, blur: float) -> None:
    """Two arcs of the plane, of one dimension each: D is right on new rows too, until noise makes them overlap."""
    torch.manual_seed(0)
    network = mlp.Network(mlp.Config(width=32, depth=2), Space((2,)))
    rule = optimizer(OptimizerConfig(name="adam", lr=1e-2), network.parameters())
    game = objective("non-saturating")

    def rows(seed: int, count: int = 256) -> tuple[Tensor, Tensor]:
        noise = KeyedNoise(seed, torch.arange(count))
        t = [math.pi * noise.fork(side).uniform() for side in ("real", "fake")]
        one, two = (torch.stack([r * s.cos(), r * s.sin()], 1) for r, s in zip((1.0, 1.0 + apart), t, strict=True))
        return one + blur * noise.fork("a").normal(2), two + blur * noise.fork("b").normal(2)

    for step in range(300):
        x, y = rows(step)
        rule.zero_grad()
        loss = game.discriminator(network(x), network(y)).mean()
        loss.backward()
        rule.step()
    x, y = rows(10_000, 2000)
    with torch.no_grad():
        real, fake = network(x), network(y)
    right = 0.5 * float((real > 0).float().mean() + (fake < 0).float().mean())
    estimate = 0.5 * (2 * math.log(2) - float(game.discriminator(real, fake).mean()))  # of the JSD
    if apart and not blur:
        assert right == 1.0
        assert estimate == pytest.approx(math.log(2), abs=0.01)
    else:
        assert right < 0.65
        assert estimate < 0.1
