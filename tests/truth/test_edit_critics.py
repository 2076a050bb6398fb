"""What a critic's features look at, and which filters draw a box, on networks whose answers are known."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from reverie.core.batch import Condition
from reverie.core.errors import RequestError, ReverieError
from reverie.core.model import Model, ModelConfig
from reverie.core.noise import Noise
from reverie.core.recipe import read_recipe
from reverie.core.run import Run
from reverie.core.space import Space
from reverie.edit.asked import Asked
from reverie.edit.draw import draw
from reverie.edit.filters import Box, drawing, filters, last_convolution, read_box, within, without
from reverie.edit.guided import Critic, guided_gradient, portraits, shown
from reverie.edit.latents import decoded, drawn
from reverie.maths.convolution import leaky_relu_
from reverie.nn import bottleneck
from reverie.nn.discrimination import Discriminator
from reverie.nn.projection import ProjectedLogit
from reverie.training.build import create, save_model

ONE = torch.tensor([[1.0, -1.0], [2.0, 1.0], [-1.0, 0.0]])
TWO = torch.tensor([[1.0, -3.0, 5.0], [-1.0, 1.0, 10.0]])
RELUS = {
    "functional": F.relu,
    "in place": lambda x: F.relu(x, inplace=True),
    "torch": torch.relu,
    "module": nn.ReLU(),
    "leaky": lambda x: F.leaky_relu(x, 0.2),
    "leaky in place": lambda x: F.leaky_relu(x, 0.2, inplace=True),
    "leaky module": nn.LeakyReLU(0.2),
    "own": lambda x: leaky_relu_(x, 0.2),
}

SMALL = tuple(f"model.{side}.{option}" for side in ("generator", "discriminator") for option in ("width=4", "stop=2"))
"""A DCGAN of two convolutions."""


@pytest.mark.parametrize("name", RELUS)
def test_guided_gradients_by_hand(name: str) -> None:
    relu, slope = RELUS[name], 0.2 if "leaky" in name or name == "own" else 0.0
    # x = (3, 1): the first layer gives (2, 7, -3), its ReLU (2, 7, 0) or (2, 7, -0.6). The second gives (-19, 5) or
    # (-22, -1): (1, -3, 5) and (-1, 1, 10) come back, of which -3 and -1 are stopped; the third unit was not active.
    x = torch.tensor([[3.0, 1.0], [3.0, 1.0]])
    found = guided_gradient(lambda x: relu(x @ ONE.T) @ TWO.T, x, torch.tensor([0, 1]))
    wanted = torch.stack([1.0 * ONE[0] + slope * 5.0 * ONE[2], 1.0 * ONE[1] + slope * 10.0 * ONE[2]])
    assert torch.allclose(found, wanted), "plain backpropagation gives (-5, -4) and (1, 2) for ReLUs"
    # A ReLU of the feature itself lets 1 into the second layer where it is active, its slope where it is not.
    last = guided_gradient(lambda x: relu(relu(x @ ONE.T) @ TWO.T), x, torch.tensor([0, 1]))
    active = torch.tensor([[slope], [slope if slope else 1.0]])
    assert torch.allclose(last, active * wanted)


def test_gradients_are_shown_about_grey() -> None:
    gradient = torch.tensor([[[[0.0, 2.0, -4.0]]], [[[0.0, 0.0, 0.0]]]])
    assert shown(gradient).flatten(1).tolist() == [[0.0, 0.5, -1.0], [0.0, 0.0, 0.0]]


class Quarters(Discriminator):
    """Features are the sums of an image's four quarters, as often as said, behind a ReLU or tanh."""

    def __init__(self, rectified: bool = True) -> None:
        super().__init__()
        self.feature_count, self.rectified = 4, rectified
        self.head = ProjectedLogit(4, 0, 1)
        self.weights = nn.Parameter(torch.tensor([1.0, 3.0, 0.5, 2.0]))

    def features(self, x: Tensor) -> Tensor:
        sums = F.avg_pool2d(x, 2).flatten(1) * self.weights
        return torch.relu(sums) if self.rectified else torch.tanh(sums)


class Judge(Model):
    """Scores images 4x4; ``turned`` shows them to its discriminator upside down."""

    def __init__(self, turned: bool = False, rectified: bool = True) -> None:
        super().__init__(ModelConfig(), Space((1, 4, 4)), {})
        self.discriminator, self.turned = Quarters(rectified), turned

    def score(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self.discriminator(x.flip(2) if self.turned else x, condition)

    def sample(self, noise: Noise, condition: Condition | None = None, how: object = None) -> Tensor:
        return torch.zeros(len(noise.ids), 1, 4, 4)


def quarter(k: int) -> Tensor:
    """An image ``[4, 4]`` of ones in a quarter: upper left, upper right, lower left, lower right."""
    x = torch.zeros(4, 4)
    x[2 * (k // 2) :, 2 * (k % 2) :][:2, :2] = 1.0
    return x


def test_features_that_vary_most_and_the_rows_they_like() -> None:
    # Row i lights quarter i % 4 by levels[i].
    levels = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.9, 0.8, 0.7, 0.6, 0.5, 0.5, 0.5, 0.5])
    x = torch.stack([level * quarter(i % 4) for i, level in enumerate(levels)])[:, None]
    found = portraits(Critic(Judge().eval()), x, Condition(), count=2, each=2)
    # Three times the upper right quarter varies most, then twice the lower right one.
    assert torch.equal(found[[0, 1, 4, 5]], x[[5, 7, 9, 11]]), "two lines of rows"
    assert torch.equal(found[[2, 3, 6, 7], 0], torch.stack([quarter(1), quarter(3)] * 2)), "their gradients"
    turned = portraits(Critic(Judge(turned=True).eval()), x, Condition(), count=1, each=1)
    assert torch.equal(turned[:, 0], torch.stack([0.6 * quarter(3), quarter(3)])), "as the model itself looks at rows"


def test_critics_that_have_no_such_features() -> None:
    x = torch.rand(5, 1, 4, 4)
    with pytest.raises(RequestError, match="has 4 features"):
        portraits(Critic(Judge().eval()), x, Condition(), count=5)
    with pytest.raises(RequestError, match="has none"):
        portraits(Critic(Judge(rectified=False).eval()), x, Condition(), count=1)
    with pytest.raises(RequestError, match="no critic"):
        Critic(Painter())


def test_r3gan_and_its_own_relu(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = create("r3gan", Space((1, 16, 16)), changes=["model.discriminator.width=16"]).eval()
    for block in (m for m in model.modules() if isinstance(m, bottleneck.Bottleneck)):
        nn.init.normal_(block.reduce.weight)  # blocks begin as the identity, without a ReLU that counts
    critic, x, place = Critic(model), torch.rand(3, 1, 16, 16, requires_grad=True), torch.tensor([0, 1, 2])
    (plain,) = torch.autograd.grad(critic.features(x).gather(1, place[:, None]).sum(), x)
    guided = guided_gradient(critic.features, x, place)
    assert (guided - plain).abs().max() > 0.1 * plain.abs().max()
    monkeypatch.setattr(bottleneck, "leaky_relu_", F.leaky_relu)
    assert torch.allclose(guided_gradient(critic.features, x, place), guided, rtol=1e-4), "as with torch's"
    assert "features" not in vars(critic.network), "it is left as it was"


def test_closeness_to_the_batch_is_no_feature() -> None:
    critic = Critic(create("improved-gan", Space((1, 8, 8))).eval())
    x = torch.rand(4, 1, 8, 8)
    assert critic.count == critic.network.feature_count - 32
    assert torch.equal(critic.features(x)[:2], critic.features(x[:2]))


class Painter(Model):
    """Draws images 8x8 from three planes: all but the box, the box by z_0, the box faintly by z_1."""

    latents = (Space((2,)),)
    box = Box(2, 4, 6, 8)

    def __init__(self, layers: int = 2, steps: int = 1, reference: int = 0) -> None:
        super().__init__(ModelConfig(), Space((1, 8, 8)), {})
        self.steps, self.reference = steps, reference
        self.first = nn.Conv2d(3, 3, 1, bias=False) if layers > 1 else nn.Identity()
        self.last = nn.Conv2d(3, 1, 1, bias=False)
        inside = torch.zeros(8, 8)
        inside[4:8, 2:6] = 1.0
        self.register_buffer("inside", inside)
        with torch.no_grad():
            self.last.weight.copy_(torch.tensor([-0.5, 0.75, 0.01]).view(1, 3, 1, 1))
            if layers > 1:
                self.first.weight.copy_(torch.eye(3).view(3, 3, 1, 1))
        self.requires_grad_(False)

    def planes(self, z: Tensor) -> Tensor:
        strong, faint = (1.0 + 0.1 * z[:, k].sigmoid()[:, None, None] for k in (0, 1))
        one = torch.ones_like(strong)
        # The faint one is there in every other column of the box alone, so that it tells less.
        striped = self.inside * (torch.arange(8) % 2)
        return torch.stack([one * (1.0 - self.inside), strong * self.inside, faint * striped], 1)  # [B, 3, 8, 8]

    def decode(self, z: tuple[Tensor, ...]) -> Tensor:
        for _ in range(self.steps):
            planes = self.planes(z[0])
            # Virtual batch norm puts a reference batch before the rows; here its box is elsewhere.
            others = planes[:1].roll(4, 2).expand(self.reference, -1, -1, -1)
            x = self.last(torch.relu(self.first(torch.cat([others, planes]))))
        return x[self.reference :]

    def sample(self, noise: Noise, condition: Condition | None = None, how: object = None) -> Tensor:
        return self.decode((noise.normal(2),))


def test_the_channel_that_draws_the_box_is_dropped() -> None:
    model = Painter()
    assert last_convolution(model) is model.last
    assert drawing(model, model.last, Painter.box).tolist() == [1, 2], "both that draw there, the strongest first"
    assert drawing(model, model.last, Painter.box, share=0.5).tolist() == [1]
    whole, less = filters(model, Painter.box, count=5).chunk(2)
    assert torch.equal(whole, decoded(model, drawn(model, range(5), 0)))
    assert (whole[:, 0, 4:8, 2:6] > 0.7).all()
    assert torch.equal(less, -0.5 * (1.0 - model.inside).expand(5, 1, 8, 8)), "the box is gone, and nothing else"
    assert torch.equal(decoded(model, drawn(model, range(5), 0)), whole), "it is left as it was"
    with without(model.last, torch.tensor([0])):
        assert (decoded(model, drawn(model, [0], 0))[0, 0, :4] == 0.0).all()
    behind = Painter(reference=40)
    assert drawing(behind, behind.last, Painter.box).tolist() == [1, 2]
    # Of a box elsewhere, the background is what draws it.
    assert drawing(model, model.last, Box(0, 0, 8, 4)).tolist() == [0]


def test_places_of_a_box() -> None:
    inside = within(Box(2, 4, 6, 8), (1, 8, 8), (4, 4))  # places of 2x2 pixels
    assert inside.int().tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0]]
    assert within(Box(0, 0, 7, 7), (1, 7, 7), (4, 4)).sum() == 9, "the last row's and column's middles were cut off"
    assert read_box(" 8, 8,20,20", (1, 28, 28)) == (8, 8, 20, 20)
    for text, fault in {
        "8,8,20": "is no box",
        "8,8,20,x": "is no box",
        "8,8,20,²": "is no box",
        "20,8,8,20": "is empty",
        "8,8,8,20": "is empty",
        "-1,8,20,20": "not within",
        "8,8,20,29": "28 pixels wide and 20 high",
    }.items():
        with pytest.raises(RequestError, match=fault):
            read_box(text, (1, 20, 28) if "29" in text else (1, 28, 28))


def test_filters_that_cannot_be_found() -> None:
    with pytest.raises(RequestError, match="at least two convolutions"):
        filters(Painter(layers=1), Painter.box)
    with pytest.raises(RequestError, match="one pass"):
        filters(Painter(steps=2), Painter.box)
    with pytest.raises(RequestError, match="all or none"):
        filters(Painter(), Box(0, 0, 8, 8))
    for share in (0.0, 1.5):
        with pytest.raises(RequestError, match="share"):
            filters(Painter(), Painter.box, share)


def saved(folder: Path, name: str, source: Path | str, space: Space, *changes: str) -> Path:
    """A run folder of an untrained model."""
    run = Run(folder)
    run.folder.mkdir()
    recipe = read_recipe(name, [f"data.source={source}", "data.size=8", *changes])
    save_model(create(name, space, changes=changes), recipe, (), run)
    run.recipe_file.write_text(json.dumps(recipe.model_dump(mode="json")))  # JSON is YAML
    return run.folder


def test_a_broken_model_draws_no_picture(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    for i in range(40):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "rows" / f"{i}.png")
    run = Run(saved(tmp_path / "run", "dcgan", tmp_path / "rows", Space((1, 8, 8)), *SMALL))
    broken = create("dcgan", Space((1, 8, 8)), changes=SMALL)
    for parameter in broken.parameters():
        torch.nn.init.constant_(parameter, float("nan"))
    save_model(broken, run.recipe, (), run)
    for tool, asked, told in (
        ("picks", Asked(count=3), "3 of the images 0 to 2 are not finite: the model broke"),
        ("walk", Asked(count=1, steps=2), "12 of the images 0 to 11"),
        ("filters", Asked(box="2,2,6,6"), "1 of the images 0 to 0"),
        ("features", Asked(count=2), "6 of the pictures 0 to 23"),
    ):
        out = tmp_path / f"out{'.gif' if tool == 'walk' else '.png'}"
        with pytest.raises(ReverieError, match=told):
            draw(run.folder, tool, asked, out=out, device="cpu")
        assert not out.exists(), tool


def test_runs_and_what_is_asked_of_them(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    for i in range(40):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "rows" / f"{i}.png")
    image = Space((1, 8, 8))
    dcgan = saved(tmp_path / "dcgan", "dcgan", tmp_path / "rows", image, *SMALL)
    ring = saved(tmp_path / "ring", "dcgan", "ring", Space((2,)))
    vae = saved(tmp_path / "vae", "vae", tmp_path / "rows", image)
    for tool, asked, columns, lines in (
        ("filters", Asked(box="2,2,6,6", count=3), 3, 2),
        ("features", Asked(count=2), 2, 12),
    ):
        file = draw(dcgan, tool, asked, out=tmp_path / f"{tool}.png", device="cpu")
        with Image.open(file) as sheet:
            assert sheet.size == (9 * (columns * 10 - 2), 9 * (lines * 10 - 2))
            pixels = np.asarray(sheet)[4::9, 4::9]  # each is shown 9 wide
    with Image.open(draw(dcgan, "picks", Asked(count=1), out=tmp_path / "one.png", device="cpu")) as sheet:
        assert sheet.size == (72, 72), "no room is left for pictures that were not asked for"
    rows = {Image.open(f).tobytes() for f in (tmp_path / "rows").iterdir()}
    shown_rows = [pixels[10 * line :, 10 * column :][:8, :8] for line in range(0, 12, 2) for column in range(2)]
    assert all(row.tobytes() in rows for row in shown_rows), "every other line is of training rows"
    assert len({row.tobytes() for row in shown_rows}) > 2
    for tool, kind, steps in (("picks", ".png", 9), ("interpolate", ".png", 2), ("walk", ".gif", 2)):
        with Image.open(
            draw(ring, tool, Asked(steps=steps, count=2), out=tmp_path / f"ring{kind}", device="cpu")
        ) as page:
            assert page.size == (640, 640), "points of a plane are drawn over the data's"
    for folder, tool, asked, fault in (
        (dcgan, "filters", Asked(), "needs --box"),
        (dcgan, "filters", Asked(box="2,2,6,9"), "not within the image"),
        (ring, "filters", Asked(box="2,2,6,6"), "rows are points"),
        (ring, "features", Asked(), "rows are points"),
        (vae, "features", Asked(), "no critic"),
        (dcgan, "paint", Asked(), "no tool 'paint'"),
    ):
        with pytest.raises(RequestError, match=fault):
            draw(folder, tool, asked, out=tmp_path / "x.png", device="cpu")


def test_an_untrained_critic_has_the_statistics_of_the_rows() -> None:
    model = create("dcgan", Space((1, 8, 8)), changes=SMALL).eval()
    norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m not in set(model.generator.modules()))
    heard = []
    norm.register_forward_hook(lambda _, inputs, output: heard.append(output))
    critic, x = Critic(model), torch.rand(64, 1, 8, 8)
    critic.settle(x, Condition())
    critic.features(x)
    assert not model.training
    assert torch.allclose(heard[-1].mean((0, 2, 3)), torch.zeros(8), atol=1e-4)
    assert heard[-1].var((0, 2, 3)).min() > 0.5
