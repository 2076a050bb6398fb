"""Autoguidance, colourisation and Ctrl-X beyond a look at them: closed forms on Gaussians, invariants on a network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import reverie
from reverie.core.batch import Condition
from reverie.core.capabilities import Path
from reverie.core.errors import RequestError
from reverie.core.model import Model, ModelConfig
from reverie.core.noise import KeyedNoise, Noise
from reverie.core.space import Space
from reverie.edit.pictures import colourise, ctrl_x, guide
from reverie.edit.task import Task, solve
from reverie.maths.operators import Grey
from reverie.maths.paths import LinearBetas, Straight, per_row
from reverie.maths.posteriors import Dirac, GaussianData
from reverie.maths.times import time_grid
from reverie.models.diffusion.flow_matching import FlowMatching
from reverie.samplers.ddim import DDIM
from reverie.samplers.guidance.autoguidance import Autoguidance
from reverie.samplers.guidance.ctrl_x import CtrlX, transferred
from reverie.samplers.heun import Heun
from reverie.samplers.integrate import integrate


class Known(Model):
    """The exact denoiser of Gaussian pictures."""

    def __init__(self, path: Path, shape: tuple[int, ...], mean: Tensor, covariance: Tensor, classes: int = 0) -> None:
        super().__init__(ModelConfig(), Space(shape, classes=classes), {})
        self.exact, self.path, self.covariance = GaussianData(path, mean, covariance), path, covariance

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Dirac:
        return Dirac(self.exact.denoise(x_t.flatten(1).double(), t.double()).mean.view_as(x_t).to(x_t.dtype))

    def enter(self, x: Tensor) -> Tensor:
        return x

    def leave(self, z: Tensor) -> Tensor:
        return z

    def sample(self, noise: Noise, condition: Condition | None = None, how: object = None) -> Tensor:
        return torch.zeros(len(noise.ids), *self.space.shape)


MEANS = torch.tensor([[0.3, -0.2, 0.1, 0.0], [0.1, -0.1, 0.2, 0.1]], dtype=torch.float64)
COVARIANCE = 0.05 * (torch.eye(4) + 0.5).double()


@pytest.mark.parametrize("path", [LinearBetas(), Straight()], ids=["ddpm", "straight"])
def test_autoguidance_extrapolates_from_the_worse_models_data_through_the_betters(path: Path) -> None:
    """Where both know the covariance, N(m_bad + w (m - m_bad), C): the denoiser's, and its samples'."""
    good, bad, wanted = (GaussianData(path, m, COVARIANCE) for m in (*MEANS, 3 * MEANS[0] - 2 * MEANS[1]))
    guided = Autoguidance(good, bad, 3.0)
    noise = KeyedNoise(0, torch.arange(2000), "test")
    x_1 = noise.normal(4).double()
    t = torch.linspace(0.05, 1, 2000, dtype=torch.float64)
    torch.testing.assert_close(guided.denoise(x_1, t).mean, wanted.denoise(x_1, t).mean)
    x = integrate(guided, Heun(), x_1, time_grid(30), noise)
    torch.testing.assert_close(x, integrate(wanted, Heun(), x_1, time_grid(30), noise), rtol=0, atol=1e-6)
    torch.testing.assert_close(x.mean(0), wanted.mean, rtol=0, atol=0.03)


def test_autoguidance_takes_no_labels_of_other_classes() -> None:
    def known(classes: int) -> Known:
        return Known(Straight(), (1, 2, 2), MEANS[0], COVARIANCE, classes)

    Autoguidance(known(10), known(0), 2.0)
    with pytest.raises(RequestError, match="the same classes; these have 10 and 3"):
        Autoguidance(known(10), known(3), 2.0)


def test_autoguidance_of_another_spread_narrows_it_by_the_same_rule() -> None:
    """In one dimension: the score is w / (c + s^2) - (w - 1) / (c_bad + s^2) of a Gaussian's, at each noise s."""
    path, w, t = Straight(), 2.0, torch.tensor([0.3, 0.7], dtype=torch.float64)
    c, c_bad = 0.2, 0.5
    good, bad = (GaussianData(path, torch.zeros(1).double(), torch.tensor([[v]]).double()) for v in (c, c_bad))
    x = torch.tensor([[0.4], [-1.0]], dtype=torch.float64)
    alpha, sigma = (per_row(a, x) for a in path(t))
    score = -(w * x / (alpha**2 * c + sigma**2) - (w - 1) * x / (alpha**2 * c_bad + sigma**2))
    found = Autoguidance(good, bad, w).denoise(x, t).mean
    torch.testing.assert_close(found, (x + sigma**2 * score) / alpha)  # Tweedie


def test_the_tool_guide_moves_samples_by_the_same_rule() -> None:
    good, bad = (Known(Straight(), (1, 2, 2), m, COVARIANCE / 10) for m in MEANS)
    task = Task(model=good, x=torch.zeros(1, 1, 2, 2), worse=bad, count=5)
    sheet = guide.draw(task, guide.Settings(method="autoguidance", guidance=2.0, steps=20))
    plain, guided = sheet.x.chunk(2)
    shift = (MEANS[0] - MEANS[1]).float().view(1, 1, 2, 2).expand_as(plain)
    torch.testing.assert_close(guided - plain, shift, rtol=0, atol=1e-4)
    bad.space = Space((1, 2, 2), maps=1)
    with pytest.raises(RequestError, match="draws from maps"):
        guide.draw(task, guide.Settings(method="autoguidance"))


@pytest.mark.parametrize("path", [LinearBetas(), Straight()], ids=["ddpm", "straight"])
def test_colours_are_those_that_the_grey_leaves_open(path: Path) -> None:
    """The grey of results is the given one; their mean and spread are the exact posterior's."""
    shape = (3, 2, 2)
    within = torch.tensor([[1.0, 0.6, 0.2], [0.6, 1.0, 0.4], [0.2, 0.4, 1.0]], dtype=torch.float64)
    model = Known(path, shape, torch.zeros(12).double(), 0.02 * torch.kron(within, torch.eye(4).double() + 0.3))
    x = 0.1 * torch.randn(1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    grey = Grey()
    a = grey(torch.eye(12).double().view(12, *shape)).flatten(1).T
    assert a.shape == (4, 12)
    torch.testing.assert_close(grey(x).flatten(), a @ x.flatten())
    sheet = colourise.draw(Task(model=model, x=x, count=600), colourise.Settings(steps=60, eta=0))
    rows = sheet.x.double()
    assert len(rows) == 602
    results = rows[1:-1]
    assert torch.allclose(rows[-1], x[0].clamp(-1, 1)), "and the picture itself"
    assert (grey(results) - grey(x)).abs().max() < 0.02  # of a grey that is 0.1 in size
    assert results.std(0).max() > 0.03, "colours differ"
    gain = model.covariance @ a.T @ torch.linalg.inv(a @ model.covariance @ a.T)
    torch.testing.assert_close(results.flatten(1).mean(0), gain @ a @ x.flatten(), rtol=0, atol=0.02)
    spread = model.covariance - gain @ a @ model.covariance
    torch.testing.assert_close(torch.cov(results.flatten(1).T), spread, rtol=0, atol=0.008)


def network() -> FlowMatching:
    """A flow matching model whose U-Net is random in every weight."""
    unet = {"name": "unet", "width": 8, "multipliers": [1, 2], "patch": 1}
    model = reverie.create("flow-matching", Space((1, 8, 8), depth=256), changes={"model.network": unet})
    generator = torch.Generator().manual_seed(1)
    for p in model.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=generator)
    assert isinstance(model, FlowMatching)
    return model.eval()


def draws(*shape: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, s, a, noise = torch.randn(4, *shape, generator=torch.Generator().manual_seed(2)).unbind()
    return x, s, a, noise


@torch.no_grad()
def test_ctrl_x_leaves_a_row_alone_that_is_its_structure() -> None:
    """Injected features are then its own; from another row they are not."""
    model = network()
    x, s, a, noise = draws(3, 1, 8, 8)
    maps = Task(model=model, x=x).later_maps
    t = torch.full((3,), 0.6)
    x_t = 0.4 * s + 0.6 * noise
    guided = CtrlX(model, model, s, a, noise, maps, (), structure_until=0.0)
    torch.testing.assert_close(guided.denoise(x_t, t).mean, model.denoise(x_t, t).mean)
    assert not torch.allclose(guided.denoise(x, t).mean, model.denoise(x, t).mean, atol=1e-2)


@torch.no_grad()
def test_ctrl_x_with_all_features_of_the_structure_is_what_the_network_says_of_the_structure() -> None:
    """The velocity is the head's, of the last map: nothing of the row itself reaches it, nor of the appearance."""
    model = network()
    x, s, a, noise = draws(3, 1, 8, 8)
    t = torch.full((3,), 0.6)
    every = tuple(range(20))
    mean = CtrlX(model, model, s, a, noise, every, (), structure_until=0.0).denoise(x, t).mean
    beside = 0.4 * s + 0.6 * noise
    torch.testing.assert_close((x - mean) / 0.6, model.velocity(beside, t), rtol=1e-4, atol=1e-4)
    alone = CtrlX(model, model, s[:1], a[:1], noise[:1], every[2:5], every[4:6]).denoise(x[:1], t[:1]).mean
    together = CtrlX(model, model, s, a, noise, every[2:5], every[4:6]).denoise(x, t).mean
    torch.testing.assert_close(alone, together[:1], rtol=1e-4, atol=1e-4)


def test_carrying_an_appearance_over_knows_no_places_and_keeps_its_scale() -> None:
    f, like = torch.randn(2, 3, 5, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(transferred(f, like[:, :, order]), transferred(f, like))
    torch.testing.assert_close(transferred(f[:, :, order], like), transferred(f, like)[:, :, order])
    scale, shift = torch.rand(2, 3, 5, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 0.5
    torch.testing.assert_close(transferred(f, scale * like + shift), scale * transferred(f, like) + shift)
    torch.testing.assert_close(transferred(scale * f + shift, like), transferred(f, like))


def test_the_tool_ctrl_x_without_injection_samples_the_model_and_with_it_each_picture_counts() -> None:
    model = network()
    _, s, a, _ = draws(2, 1, 8, 8)

    def drawn(structure: float, appearance: float, s: Tensor = s, a: Tensor = a) -> Tensor:
        task = Task(model=model, x=s, others=a, count=2)
        settings = ctrl_x.Settings(steps=4, structure=structure, appearance=appearance)
        return ctrl_x.draw(task, settings).x.view(2, 4, 1, 8, 8)[:, 2:]

    task = Task(model=model, x=s, count=2)
    plain = solve(task.clipped(model), DDIM(1.0), task.start(), time_grid(4), task.noise("steps"), Condition())
    torch.testing.assert_close(drawn(1, 1), task.results(plain), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(drawn(0.1, 1, a=-a), drawn(0.1, 1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(drawn(1, 0.1, s=-s), drawn(1, 0.1), rtol=1e-4, atol=1e-4)
    assert (drawn(0.1, 0.6, a=-a) - drawn(0.1, 0.6)).abs().max() > 0.01
    assert (drawn(0.1, 0.6, s=-s) - drawn(0.1, 0.6)).abs().max() > 0.01
