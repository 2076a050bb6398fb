"""Latent tools on a decoder that is known, and on files that they write."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.errors import RequestError, ReverieError
from reverie.core.model import Model, ModelConfig
from reverie.core.noise import Noise
from reverie.core.recipe import read_recipe
from reverie.core.run import Run
from reverie.core.space import Space
from reverie.data.config import DataConfig
from reverie.data.dataset import open_data
from reverie.edit.arithmetic import arithmetic
from reverie.edit.asked import Asked
from reverie.edit.between import circle, line
from reverie.edit.interpolate import interpolate, strips
from reverie.edit.labelled import middle, of_group
from reverie.edit.latents import Pick, decoded, drawn, picked, read_picks
from reverie.edit.model_tools import SHEETS
from reverie.edit.scatter import MARGIN, SIDE, places, reach, scatter
from reverie.edit.walk import save_animation, walk, way
from reverie.training.build import create


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


def test_noise_keeps_unit_variance_in_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean of 100 rows of noise has a hundredth of its variance: a denoiser was never shown anything like it."""
    model = create("flow-matching", Space((1, 8, 8)), changes={"model.network.width": 8})
    seen: list[Tensor] = []
    monkeypatch.setattr(model, "decode", lambda z: seen.append(z[0]) or z[0])
    a, b, c = (torch.randn(100, 1, 8, 8, generator=torch.Generator().manual_seed(k)) for k in range(3))
    arithmetic(model, (a,), (b,), (c,))
    assert torch.allclose(seen[0].square().mean((1, 2, 3)), torch.ones(4))
    direction = a.mean(0) - b.mean(0) + c.mean(0)
    assert torch.allclose(seen[0][3], direction / direction.square().mean().sqrt(), atol=1e-6)


def test_latents_are_named_by_number() -> None:
    model = Linear()
    assert torch.equal(drawn(model, [7, 2], 0)[0][1], drawn(model, [2], 0)[0][0])
    assert not torch.equal(drawn(model, [2], 1)[0], drawn(model, [2], 0)[0])
    assert read_picks("3, row:5") == [Pick(3), Pick(5, row=True)]
    assert torch.equal(picked(model, [Pick(2)], 0, None)[0], drawn(model, [2], 0)[0])
    assert read_picks("label:cat,tag:shape: disc") == [Pick(0, group="label:cat"), Pick(0, group="tag:shape: disc")]
    for text in ("x", "3,", "col:3", "-1", "label:"):
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
    z = drawn(Linear(), range(130), 0)
    assert decoded(Linear(), z).shape == (130, 4)
    z[0][[7, 100], 1] = torch.inf
    with pytest.raises(ReverieError, match="2 of the points 0 to 129 are not finite: the model broke"):
        decoded(Linear(), z)


class Coder(Linear):
    """Rows are a linear function of z, and z is found again."""

    latents = (Space((16,)),)

    def __init__(self) -> None:
        super().__init__()
        self.space = Space((1, 4, 4))
        self.scale = torch.nn.Parameter(torch.tensor(4.0))

    def encode(self, x: Tensor, noise: Noise | None = None) -> tuple[Tensor, ...]:
        return (self.scale * x.flatten(1) + 1.0,)

    def decode(self, z: tuple[Tensor, ...]) -> Tensor:
        return ((z[0] - 1.0) / self.scale).view(-1, 1, 4, 4)


class Known(Linear):
    """Draws z as it is; it has no encoder, and no labels."""

    latents = (Space((16,)),)

    def __init__(self) -> None:
        super().__init__()
        self.space = Space((1, 4, 4))

    def decode(self, z: tuple[Tensor, ...]) -> Tensor:
        return z[0].view(-1, 1, 4, 4)


@pytest.fixture
def shades(tmp_path: Path) -> str:
    """Four classes of flat images; some have tags."""
    lines = []
    for k, name in enumerate(("a", "b", "c", "d")):
        (tmp_path / name).mkdir()
        for i in range(12):
            Image.new("L", (4, 4), 60 * k + i).save(tmp_path / name / f"{i}.png")
            tags = ["late", "odd"] if i % 2 else ["even"]
            lines.append(f'{{"file_name": "{name}/{i}.png", "tags": {str(tags).replace(chr(39), chr(34))}}}')
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    return str(tmp_path)


def test_arithmetic_of_classes_is_of_their_mean_latents(shades: str, tmp_path: Path) -> None:
    """Of a linear code the result is the mean image of one class, less another's, plus a third's."""
    settings = {"source": shades, "size": 4, "held_out": 0.4}
    data = open_data(DataConfig.read(settings, "data"))
    rows = data.held_out
    means = [rows.take(np.flatnonzero(rows.labels == k))[0].mean(0) for k in range(4)]
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    run.recipe_file.write_text(read_recipe("vae", {f"data.{key}": value for key, value in settings.items()}).to_yaml())
    asked = Asked(plus="label:d", minus="label:2", to="label:b")
    sheet = SHEETS["arithmetic"](run, Coder(), asked, None)
    expected = torch.stack([means[3], means[2], means[1], means[3] - means[2] + means[1]])
    assert torch.allclose(sheet.x, expected, atol=1e-5)
    assert not torch.allclose(means[3] - means[2] + means[1], means[2] - means[3] + means[1], atol=0.1)
    odd = [i for i, row in enumerate(rows.table) if "odd" in row["tags"]]
    assert 0 < len(odd) < len(rows)
    (z,) = of_group(Coder(), "tag:odd", data, 0, None)
    assert torch.allclose(z, 4.0 * rows.take(np.array(odd))[0].flatten(1).mean(0, keepdim=True) + 1.0, atol=1e-5)
    assert middle(torch.tensor([[1], [2], [2]])).tolist() == [[2]], "a code is no number: no mean of it"


def test_without_an_encoder_a_classifier_says_which_samples_are_of_a_class(shades: str) -> None:
    data = open_data(DataConfig.read({"source": shades, "size": 4}, "data"))

    def judge(x: Tensor) -> Tensor:  # the second class where the first pixel is white, sure in proportion
        first = x[:, 0, 0, 0]
        return torch.stack([-first, 9.0 * first, *[torch.full_like(first, -9.0)] * 2], 1)

    model = Known()
    model.anchor = torch.nn.Parameter(torch.zeros(1))
    (z,) = of_group(model, "label:b", data, 0, lambda: judge)
    (samples,) = drawn(model, range(512), 0)
    white = samples.clamp(-1, 1)[:, 0].sort(descending=True, stable=True).indices[:64]
    assert torch.allclose(z, samples[white].mean(0, keepdim=True))
    assert z[0, 0] > 0.8 > z[0, 1:].abs().max()
    with pytest.raises(RequestError, match="0 look like 'd': too few"):
        of_group(model, "label:d", data, 0, lambda: judge)


def test_groups_that_there_are_not(shades: str) -> None:
    data = open_data(DataConfig.read({"source": shades, "size": 4}, "data"))
    labelled = Known()
    labelled.latents = (*Known.latents, Space((1,), levels=4))
    for model, group, fault in (
        (Coder(), "label:e", "no class 'e'"),
        (Coder(), "label:4", "no class '4'"),
        (Coder(), "tag:od", "has tag 'od'; did you mean 'odd'"),
        (Known(), "tag:odd", "no encoder, and so no latent of a tag"),
        (Known(), "label:a", "name samples by number"),
        (labelled, "label:a", "of which z says nothing"),
    ):
        with pytest.raises(RequestError, match=fault):
            of_group(model, group, data, 0, None)


def test_points_lie_where_they_should_in_their_picture() -> None:
    """x to the right, y upwards; the greatest coordinate is at the margin."""
    corner = torch.tensor([[2.0, 2.0], [0.0, -1.0]])
    limit = reach(corner)
    assert limit == 2.0
    assert places(corner, limit) == [(SIDE - MARGIN, MARGIN), (SIDE / 2, SIDE * 0.75 - MARGIN / 2)]
    page = scatter(corner[:, None], torch.tensor([[-2.0, 0.0]]))[0]
    assert page.shape == (3, SIDE, SIDE)
    assert page[:, MARGIN, SIDE - MARGIN].tolist() == pytest.approx([191 / 127.5 - 1, 19 / 127.5 - 1, 19 / 127.5 - 1])
    assert page[:, SIDE // 2, MARGIN].unique().item() == pytest.approx(205 / 127.5 - 1)
    assert page[:, 0, 0].tolist() == [1.0, 1.0, 1.0]
    strip = torch.tensor([[[-1.0, 0.0], [1.0, 0.0]]])
    apart, joined = (scatter(strip, torch.empty(0, 2), joined=on)[0, :, SIDE // 2, SIDE // 2] for on in (False, True))
    assert apart.tolist() == [1.0, 1.0, 1.0]
    assert joined[1] < 0
