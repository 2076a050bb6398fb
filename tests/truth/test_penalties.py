"""Gradient penalties against closed forms, and the convolution that makes them fast against torch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.core.errors import RequestError
from reverie.core.noise import KeyedNoise
from reverie.core.space import Space
from reverie.maths import convolution
from reverie.maths.convolution import convolve, leaky_relu_
from reverie.maths.penalties import PENALTIES, PLACES, penalty, slope
from reverie.nn import bottleneck
from reverie.nn.discriminator import r3gan


def test_which_rows_each_penalty_looks_at() -> None:
    places = {
        "r1": "real",
        "r2": "fake",
        "gradient-penalty": "between",
        "one-sided-gradient-penalty": "between",
        "dragan": "around",
    }
    assert {name: p.at for name, p in PENALTIES.items()} == places
    with pytest.raises(RequestError, match="there are r1, r2, gradient-penalty"):
        penalty("r3")


@pytest.mark.parametrize(
    ("name", "steep", "flat"),
    [
        ("r1", 2.0, 0.125),
        ("r2", 2.0, 0.125),
        ("gradient-penalty", 1.0, 0.25),
        ("dragan", 1.0, 0.25),
        ("one-sided-gradient-penalty", 1.0, 0.0),
    ],
)
def test_measures_of_slopes_of_two_and_of_a_half(name: str, steep: float, flat: float) -> None:
    slopes = torch.tensor([[1.2, -1.6], [0.3, 0.4]])
    torch.testing.assert_close(penalty(name).measure(slopes), torch.tensor([steep, flat]))


def test_points_between_and_around() -> None:
    """On the line, one share a row; around real rows, uniform up to half a deviation; each by its row's noise."""
    noise = KeyedNoise(0, torch.arange(4000))
    x, y = torch.zeros(4000, 1, 2, 2), torch.full((4000, 1, 2, 2), 2.0)
    x[:, :, 0] = 4.0
    middle = PLACES["between"](x, y, noise, x.std())
    share = (middle - y) / (x - y)
    assert torch.allclose(share, share[:, :1, :1, :1].expand_as(share), atol=1e-6)
    assert 0 <= share.min() < share.max() <= 1
    assert share.mean().item() == pytest.approx(0.5, abs=0.02)
    assert share.var().item() == pytest.approx(1 / 12, rel=0.05)
    moved = PLACES["around"](x, y, noise, x.std()) - x
    reach = 0.5 * x.std()
    assert bool((moved >= 0).all())
    assert bool((moved <= reach).all())
    assert moved.mean().item() == pytest.approx(float(reach) / 4, rel=0.05)  # half of the share, half of the noise
    part = PLACES["between"](x[10:20], y[10:20], KeyedNoise(0, torch.arange(10, 20)), x.std())
    assert torch.equal(part, middle[10:20])
    near = PLACES["around"](x[10:12], y[10:12], KeyedNoise(0, torch.arange(10, 12)), x.std()) - x[10:12]
    assert torch.equal(near, moved[10:12]), "rows are moved as far whichever rows are beside them"


@pytest.mark.parametrize(("name", "value"), [("gradient-penalty", 16.0), ("one-sided-gradient-penalty", 16.0)])
def test_penalties_that_want_slope_one(name: str, value: float) -> None:
    """D(x) = w x: (|w| - 1)^2, with derivative 2 (|w| - 1) w / |w|; below one only the two-sided one punishes."""
    w = torch.tensor([3.0, -4.0], dtype=torch.float64, requires_grad=True)
    x = torch.randn(5, 2, dtype=torch.float64).requires_grad_()
    found = penalty(name).measure(slope(x @ w, x))
    assert torch.allclose(found.double(), torch.full_like(found, value).double())
    found.mean().backward()
    assert torch.allclose(w.grad, 8.0 * w.detach() / 5.0, rtol=1e-6)
    gentle = penalty(name).measure(0.5 * torch.eye(1, 2))
    assert gentle.item() == (0.0 if name.startswith("one") else 0.25)


@pytest.mark.parametrize("name", ["r1", "r2"])
def test_penalty_of_a_linear_critic(name: str) -> None:
    """D(x) = w x has slope w everywhere: the penalty is |w|^2 / 2 and its derivative w."""
    w = torch.tensor([3.0, -4.0], dtype=torch.float64, requires_grad=True)
    x = torch.randn(5, 2, dtype=torch.float64).requires_grad_()
    value = penalty(name).measure(slope(x @ w, x).double())
    assert torch.allclose(value, torch.full_like(value, 12.5))
    value.mean().backward()
    assert torch.allclose(w.grad, w.detach())


def test_penalty_of_a_quadratic_critic() -> None:
    """D(x) = x' A x / 2 has slope S x with S = (A + A') / 2; the derivative by A is the symmetric part of S x x'."""
    a = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    x = torch.randn(4, 3, dtype=torch.float64).requires_grad_()
    value = penalty("r1").measure(slope(0.5 * torch.einsum("bi,ij,bj->b", x, a, x), x))
    s = (0.5 * (a + a.T)).detach()
    rows = x.detach()
    assert torch.allclose(value.double(), 0.5 * (rows @ s).square().sum(1), rtol=1e-6)
    value.sum().backward()
    outer = s @ (rows.T @ rows)
    assert torch.allclose(a.grad, 0.5 * (outer + outer.T), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("stride", "padding", "groups"), [(1, 1, 1), (2, 1, 2), (1, 0, 4)])
def test_convolution_and_its_first_two_derivatives(stride: int, padding: int, groups: int) -> None:
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    w = torch.randn(8, 4 // groups, 3, 3, dtype=torch.float64, requires_grad=True)
    b = torch.randn(8, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return convolve(x, w, b, stride, padding, groups)

    assert torch.allclose(run(x, w, b), F.conv2d(x, w, b, stride, padding, 1, groups))
    assert torch.autograd.gradcheck(run, (x, w, b), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (x, w, b), fast_mode=True)


def test_leaky_relu_and_its_first_two_derivatives() -> None:
    x = torch.randn(40, dtype=torch.float64, requires_grad=True)
    assert torch.equal(leaky_relu_(x + 0, 0.2), F.leaky_relu(x, 0.2))
    assert torch.autograd.gradcheck(lambda x: leaky_relu_(x + 0, 0.2), (x,))
    assert torch.autograd.gradgradcheck(lambda x: leaky_relu_(x + 0, 0.2) ** 2, (x,))


def gradients(critic: nn.Module, x: Tensor) -> list[Tensor]:
    """Of both terms of a penalised loss, so that first and second derivatives meet in one backward pass."""
    points = x.clone().requires_grad_()
    logits = critic(points)
    loss = F.softplus(-logits).mean() + penalty("r1").measure(slope(logits, points)).mean()
    return list(torch.autograd.grad(loss, list(critic.parameters())))


def critic(**options: int) -> nn.Module:
    torch.manual_seed(0)
    network = r3gan.Network(r3gan.Config(width=8, max_width=16, **options), Space((2, 12, 12)))
    for weight in network.parameters():  # the last layer of each block starts at zero, and would hide the others
        weight.data.add_(0.05 * torch.randn_like(weight))
    return network


def test_penalty_through_our_convolution_and_through_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = critic(group=4), torch.randn(3, 2, 12, 12)
    ours = gradients(network, x)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            monkeypatch.setattr(module, "forward", nn.Conv2d.forward.__get__(module))
    monkeypatch.setattr(bottleneck, "leaky_relu_", F.leaky_relu)
    for a, b in zip(ours, gradients(network, x), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)


def test_the_slope_costs_no_gradient_of_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.Size] = []
    original = convolution._ToWeight.apply

    def counted(*args: object) -> Tensor:
        calls.append(args[2])
        return original(*args)

    monkeypatch.setattr(convolution._ToWeight, "apply", counted)
    network, x = critic(), torch.randn(2, 2, 12, 12).requires_grad_()
    logits = network(x)
    gradient = slope(logits, x)
    assert calls == []
    (logits.sum() + gradient.square().sum()).backward()
    layers = sum(1 for m in network.modules() if isinstance(m, nn.Conv2d))
    assert len(calls) == 2 * layers, "one from the logits and one from the slope"
    with pytest.raises(RuntimeError):
        slope(network(x.detach()), x)
    network(x).sum().backward()
    assert network.start.weight.grad is not None, "a failed slope must not leave weights without gradients"


def test_double_backward_in_bf16_is_close_to_float32() -> None:
    network, x = critic(group=4), torch.randn(16, 2, 12, 12)
    exact = torch.cat([g.flatten() for g in gradients(network, x)])
    with torch.autocast("cpu", torch.bfloat16):
        rough = torch.cat([g.flatten() for g in gradients(network, x)])
    assert rough.dtype == torch.float32
    assert F.cosine_similarity(exact, rough, dim=0) > 0.999
    assert rough.norm() / exact.norm() == pytest.approx(1.0, abs=0.02)
    assert not torch.equal(exact, rough), "autocast did nothing"
