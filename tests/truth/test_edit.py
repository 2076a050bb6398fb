"""Latent tools on a decoder that is known, and on files that they write."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.errors import RequestError
from reverie.core.model import Model, ModelConfig
from reverie.core.noise import Noise
from reverie.core.space import Space
from reverie.edit.arithmetic import arithmetic
from reverie.edit.between import circle, line
from reverie.edit.interpolate import interpolate, strips
from reverie.edit.latents import Pick, decoded, drawn, picked, read_picks
from reverie.edit.walk import save_animation, walk, way


class Linear(Model):
    """Rows are z itself, and the label in the last value."""

    latents = (Space((3,)), Space((1,), levels=5))

    def __init__(self) -> None:
        super().__init__(ModelConfig(), Space((4,)), {})

    def decode(self, z: tuple[Tensor, ...]) -> Tensor:
        return torch.cat([z[0], z[1].float()], 1)

    def sample(self, noise: Noise, condition: Condition | None = None, how: object = None) -> Tensor:
        return torch.zeros(len(noise.ids), 4)


def test_a_great_circle_by_hand() -> None:
    a, b = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 5.0])
    t = torch.tensor([0.0, 1 / 3, 0.5, 1.0])
    z = circle(a, b, t)
    assert torch.allclose(z[0], a)
    assert torch.allclose(z[3], b)
    assert torch.allclose(z[1], torch.tensor([3 * 0.75**0.5, 5 * 0.5]))  # 30 degrees
    unit = circle(a / 3, b / 5, torch.linspace(0, 1, 11))
    assert torch.allclose(unit.norm(dim=1), torch.ones(11)), "it stays on the sphere"
    assert torch.allclose(line(a, b, t)[2], torch.tensor([1.5, 2.5]))
    assert torch.allclose(circle(a, 2 * a, t), line(a, 2 * a, t)), "no angle: a line"


def test_strips_and_labels() -> None:
    model = Linear()
    start, end = drawn(model, [0, 1], 0), drawn(model, [2, 3], 0)
    x = interpolate(model, start, end, steps=5, path="linear")
    assert x.shape == (10, 4)
    assert torch.allclose(x[5:, :3], line(start[0][1], end[0][1], torch.linspace(0, 1, 5)))
    labels = strips((start[0], torch.tensor([[1], [1]])), (end[0], torch.tensor([[4], [1]])), 5, "linear")[1]
    assert labels.flatten().tolist() == [1, 1, 4, 4, 4, 1, 1, 1, 1, 1]
    with pytest.raises(RequestError, match="at least 2 steps"):
        interpolate(model, start, end, steps=1)


def test_arithmetic_is_of_means() -> None:
    def side(*rows: list[float], label: int) -> tuple[Tensor, Tensor]:
        return torch.tensor(rows), torch.full((len(rows), 1), label)

    found = arithmetic(
        Linear(),
        side([1.0, 0.0, 0.0], [3.0, 2.0, 0.0], label=1),
        side([1.0, 1.0, 1.0], label=2),
        side([0.0, 0.0, 5.0], label=3),
    )
    assert found.tolist() == [[2, 1, 0, 1], [1, 1, 1, 2], [0, 0, 5, 3], [1, 0, 4, 3]]


def test_latents_are_named_by_number() -> None:
    model = Linear()
    assert torch.equal(drawn(model, [7, 2], 0)[0][1], drawn(model, [2], 0)[0][0])
    assert not torch.equal(drawn(model, [2], 1)[0], drawn(model, [2], 0)[0])
    assert read_picks("3, row:5") == [Pick(3), Pick(5, row=True)]
    assert torch.equal(picked(model, [Pick(2)], 0, None)[0], drawn(model, [2], 0)[0])
    for text in ("x", "3,", "col:3", "-1"):
        with pytest.raises(RequestError, match="names no latent"):
            read_picks(text)
    with pytest.raises(RequestError, match="no encoder"):
        picked(model, [Pick(2, row=True)], 0, None)


def test_latents_are_drawn_of_their_priors() -> None:
    model = Linear()
    model.latents = (Space((2,), between=(0.0, 1.0)), Space((1,), levels=3), Space((1,), between=(-1.0, 1.0)))
    z, label, code = drawn(model, range(4000), 0)
    assert 0 <= z.min() < 0.01
    assert 0.99 < z.max() <= 1
    assert z.mean().item() == pytest.approx(0.5, abs=0.02)
    assert label.unique().tolist() == [0, 1, 2]
    assert -1 <= code.min() < -0.99
    assert code.var().item() == pytest.approx(1 / 3, rel=0.05)


def test_a_walk_returns_to_where_it_began(tmp_path: Path) -> None:
    stops = torch.eye(3)[:, :2].repeat(2, 1)  # two walkers over (1, 0), (0, 1), (0, 0)
    frames = way(stops, walkers=2, stops=3, steps=4).view(12, 2, 2)
    assert torch.allclose(frames[0], torch.tensor([1.0, 0.0]).expand(2, 2))
    assert torch.allclose(frames[4, 0], torch.tensor([0.0, 1.0]), atol=1e-6)
    assert torch.allclose(frames[2, 0], torch.full((2,), 0.5**0.5))  # half-way on the circle
    assert way(torch.tensor([[1], [2], [3], [4]]), 2, 2, 3).flatten().tolist() == [1, 3] * 6  # labels stay
    assert len(walk(Linear(), stops=2, steps=3, walkers=5)) == 6
    images = [torch.full((4, 1, 8, 8), level) for level in (-1.0, 0.0, 1.0)]
    save_animation(images, tmp_path / "walk.gif", scale=2)
    with Image.open(tmp_path / "walk.gif") as film:
        assert film.n_frames == 3
        assert film.size == (36, 36)
    with pytest.raises(RequestError, match=r"\.gif or a \.webp"):
        save_animation(images, tmp_path / "walk.png")
    assert decoded(Linear(), drawn(Linear(), range(130), 0)).shape == (130, 4)
