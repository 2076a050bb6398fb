"""Models that draw from maps are given the maps of held-out rows, wherever they are sampled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import reverie
from reverie.core.batch import Condition
from reverie.core.errors import RequestError, ReverieError
from reverie.core.export import check_target
from reverie.core.images import from_bytes
from reverie.core.model import Model, ModelConfig
from reverie.core.noise import Noise
from reverie.core.sampling import sample
from reverie.core.space import Space
from reverie.data import DataConfig, open_data, scenes
from reverie.data.dataset import Dataset
from reverie.data.maps import as_picture, beside
from reverie.evaluation.features.features import choose_features
from reverie.evaluation.figure import Figure
from reverie.evaluation.measures.maps import measure as maps_measure
from reverie.evaluation.measures.scenes import measure as scenes_measure
from reverie.evaluation.speed import speed, work
from reverie.evaluation.subject import Subject
from reverie.training.grids import write_grid

Measure = Callable[[Subject], dict[str, Figure]]


class Copy(Model):
    """Draws the map it is given, with its label in the first pixel."""

    def sample(self, noise: Noise, condition: Condition | None = None, how: Any = None) -> Tensor:
        x = condition.image.expand(-1, self.space.shape[0], -1, -1).clone()
        x[:, :, 0, 0] = 0.0 if condition.label is None else condition.label[:, None] / 10.0
        return x


def copy(dataset: Dataset) -> Copy:
    return Copy(ModelConfig(), dataset.space, {})


def test_samples_are_drawn_for_held_out_rows_in_any_batch():
    dataset = open_data(DataConfig(source="digits", maps="edges"))
    model, asks = copy(dataset), dataset.asks(dataset.space)
    x, labels = sample(model, 50, condition=asks, batch=7)
    again = sample(model, 50, seed=5, condition=asks)
    assert torch.equal(x, again.x)
    assert torch.equal(labels, again.labels)
    _, held = dataset.held_out.take(np.arange(len(dataset.held_out)))
    same = (held.image[None, :, :, 1:] == x[:, None, :, 1:]).flatten(2).all(2)  # [50, held out]
    assert same.any(1).all(), "every map is a held-out row's"
    place = same.double().argmax(1)
    assert torch.equal(held.label[place], labels), "and the label is the same row's"
    assert len(place.unique()) > 45
    assert len(labels.unique()) > 5, "in an order of no meaning, though rows may be sorted by class"
    some = sample(model, 3, condition=asks, labels=[4, 4, 9])
    assert some.labels.tolist() == [4, 4, 9]
    assert torch.equal(some.x[:, 0, 1:], x[:3, 0, 1:])


def test_a_condition_may_be_given_and_must_fit():
    space = Space((1, 8, 8), maps=2)
    model = Copy(ModelConfig(), Space((2, 8, 8), maps=2), {})
    image = torch.linspace(-1, 1, 5 * 2 * 8 * 8).view(5, 2, 8, 8)
    assert torch.equal(sample(model, 5, condition=Condition(image=image), batch=2).x[..., 1:, :], image[..., 1:, :])
    for condition, said in (
        (None, "draws from maps of 2 channels: give it some"),
        (Condition(image=image[:4]), "4 rows for 5 samples"),
        (Condition(image=image[..., :4]), "given are 2x8x4; this model draws from 2x8x8"),
        (Condition(image=image[:, :1]), "given are 1x8x8"),
    ):
        with pytest.raises(RequestError, match=said):
            sample(model, 5, condition=condition)
    digits = open_data(DataConfig(source="digits", maps="edges"))
    with pytest.raises(RequestError, match="maps of 2 channels at 8x8; digits has maps of 1 channels at 28x28"):
        digits.asks(space)
    assert open_data(DataConfig(source="digits")).asks(Space((1, 28, 28))) is None


def test_grids_show_each_map_beside_its_sample_and_timings_have_maps(tmp_path: Path):
    dataset = open_data(DataConfig(source="digits", maps="edges"))
    model, asks = copy(dataset), dataset.asks(dataset.space)
    x, labels = write_grid(model, tmp_path / "grid.png", 18, 0, asks)
    assert (len(x), len(labels)) == (18, 18)
    sheet = np.asarray(Image.open(tmp_path / "grid.png"))[::3, ::3]  # 6 columns of 28 pixels and 2 between
    left, right = sheet[1:28, :28], sheet[1:28, 30:58]
    np.testing.assert_array_equal(left, right)
    assert left.max() == 255
    assert speed(model, asks=asks, batch=4, seconds=0.0).together
    assert work(model, asks=asks, batch=4).batch == 4


def test_maps_as_pictures():
    grey, two = torch.full((1, 1, 2, 2), 0.5), torch.tensor([1.0, -1.0]).view(1, 2, 1, 1)
    assert torch.equal(as_picture(grey), grey)
    assert as_picture(two).flatten().tolist() == pytest.approx([2 * c / 255 - 1 for c in (214, 39, 40)])
    assert (as_picture(-torch.ones(1, 2, 1, 1)) == -1).all()
    both = beside(grey, torch.zeros(1, 3, 2, 2))
    assert both.shape == (2, 3, 2, 2)
    assert (both[0] == 0.5).all()


def test_a_run_with_maps_from_training_to_its_samples(tmp_path: Path):
    changes = {
        "data.maps": "edges",
        "data.size": 16,
        "train.steps": 2,
        "train.time": None,
        "train.batch": 4,
        "train.grids": 1,
        "train.grid_size": 4,
        "model.network.name": "mlp",
    }
    run = reverie.train("flow-matching", "digits", out=tmp_path / "run", changes=changes, quiet=True)
    model = reverie.load(run)
    assert model.space.maps == 1
    assert len(list(run.samples.iterdir())) == 1
    with pytest.raises(RequestError, match="give it some"):
        reverie.sample(model, 2)
    own = reverie.conditions(run.recipe.data, model.space)
    assert own(torch.arange(3)).label is not None
    folder = tmp_path / "maps"
    folder.mkdir()
    for k in range(2):
        Image.fromarray(np.full((16, 16), 255 * k, np.uint8)).save(folder / f"{k}.png")
    given = reverie.conditions(run.recipe.data, model.space, maps=str(folder))(torch.arange(3)).image
    clear = np.zeros((16, 16, 4), dtype=np.uint8)
    clear[4:9] = 255  # white lines on nothing
    (folder.parent / "clear").mkdir()
    Image.fromarray(clear, "RGBA").save(folder.parent / "clear" / "0.png")
    for fit in (False, True):
        lines = reverie.conditions(run.recipe.data, model.space, maps=str(folder.parent / "clear"), fit=fit)
        assert torch.equal(lines(torch.arange(1)).image[0, 0, :, 0], torch.tensor(clear[:, 0, 3] / 127.5 - 1).float())
    assert sorted(given.mean((1, 2, 3)).tolist())[0] == -1.0
    assert given.shape == (3, 1, 16, 16)
    other = reverie.conditions(run.recipe.data, model.space, data="emoji")
    assert other(torch.arange(2)).image.shape == (2, 1, 16, 16)
    assert len(reverie.beside_maps(reverie.sample(model, 2, condition=other), other).x) == 4
    with pytest.raises(RequestError, match="not both"):
        reverie.conditions(run.recipe.data, model.space, "emoji", str(tmp_path))
    with pytest.raises(RequestError, match="draws from no maps"):
        reverie.conditions(run.recipe.data, Space((1, 16, 16)), "emoji")
    dataset = open_data(DataConfig.read(run.recipe.data, "data"))
    features = choose_features(dataset, None, print, "random")
    drawn = Subject(run, model, dataset, features, count=5, batch=2, say=print).drawn
    assert torch.equal(drawn.labels, own(torch.arange(5)).label)


def measured(model: Model, dataset: Dataset, count: int, measure: Measure) -> dict[str, Figure]:
    features: Any = SimpleNamespace(
        size=1, key="none", classifier=None, extract=lambda x: torch.zeros(len(x), 1), statement=""
    )
    return measure(Subject(None, model, dataset, features, count=count, say=lambda line: None))  # type: ignore[arg-type]


class Scene(Model):
    """Draws a held-out scene of the class it is asked for; with every second one it does not care."""

    def sample(self, noise: Noise, condition: Condition | None = None, how: Any = None) -> Tensor:
        labels = scenes.labels(np.arange(-2000, 0))
        found = [np.flatnonzero(labels == k)[0] - 2000 for k in condition.label.tolist()]
        numbers = np.where(noise.ids.numpy() % 2 == 0, found, -2001 - noise.ids.numpy())
        return from_bytes(torch.from_numpy(scenes.draw(scenes.compose(numbers), 32)))


def test_scenes_are_judged_by_what_was_asked():
    dataset = open_data(DataConfig(source="scenes:100"))
    figures = measured(Scene(ModelConfig(), dataset.space, {}), dataset, 60, scenes_measure)
    assert figures["scene_shown"].estimate.value > 0.9
    assert 0.45 <= figures["scene_asked"].estimate.value <= 0.6
    assert figures["scene_asked"].real.value > 0.9
    assert measured(Scene(ModelConfig(), dataset.space, {}), open_data(DataConfig()), 2, scenes_measure) == {}


class Drawing(Model):
    """Draws the very picture whose edges it is given, or that of the next held-out row."""

    next = 0

    def sample(self, noise: Noise, condition: Condition | None = None, how: Any = None) -> Tensor:
        dataset = open_data(DataConfig(source="digits", maps="edges"))
        order = np.random.Generator(np.random.Philox(0)).permutation(len(dataset.held_out))
        return dataset.held_out.take(order[noise.ids.numpy() + self.next])[0]


def test_samples_are_judged_by_the_edges_they_were_drawn_for():
    dataset = open_data(DataConfig(source="digits", maps="edges"))
    model = Drawing(ModelConfig(), dataset.space, {})
    assert measured(model, dataset, 20, maps_measure)["edge_agreement"].estimate.value == 1.0
    model.next = 1
    assert measured(model, dataset, 20, maps_measure)["edge_agreement"].estimate.value < 0.3


@pytest.mark.parametrize("style", ["openmoji", "noto"])
def test_line_art_is_that_of_the_same_emoji(style: str):
    dataset = open_data(DataConfig(source=f"emoji:{style}", maps="line"))
    drawn = open_data(DataConfig(source="emoji:openmoji-line"))
    for rows, lines in ((dataset.train, drawn.train), (dataset.held_out, drawn.held_out)):
        index = np.arange(0, len(rows), 7)
        assert [rows.table[i]["hexcode"] for i in index] == [lines.table[i]["hexcode"] for i in index]
        image = rows.take(index)[1].image
        grey = torch.from_numpy(lines.pixels(index).max(axis=1, keepdims=True)).float() / 127.5 - 1
        assert torch.allclose(image, -grey, atol=1e-6)
    if style == "openmoji":
        x, condition = dataset.train.take(np.arange(200))
        assert x.mean(1)[condition.image[:, 0] > 0.8].mean() < -0.5, "lines are dark in the picture too"


class Given(Model):
    """Draws the rows that it was given."""

    def __init__(self, rows: Tensor, classes: int = 0) -> None:
        super().__init__(ModelConfig(), Space(tuple(rows.shape[1:]), classes=classes), {})
        self.rows = rows

    def sample(self, noise, condition=None, how=None):
        return self.rows[noise.ids]


def test_samples_that_are_not_finite_are_an_error(tmp_path: Path):
    rows = torch.zeros(6, 1, 8, 8)
    rows[4, 0, 3, 3], rows[5, 0, 0, 0] = torch.nan, torch.inf
    assert sample(Given(rows), 4, batch=2, check=True).x.shape == (4, 1, 8, 8)
    with pytest.raises(ReverieError, match="1 of the samples 3 to 4 are not finite: the model broke"):
        sample(Given(rows), 5, batch=3, check=True)
    with pytest.raises(ReverieError, match="2 of the samples 0 to 5 are not finite"):
        sample(Given(rows), 6, check=True)
    for name in ("x.png", "x.npz", "x"):
        with pytest.raises(ReverieError, match="2 of the samples 0 to 5 are not finite"):
            reverie.save_samples(sample(Given(rows), 6), tmp_path / name)
        assert not (tmp_path / name).exists()
    assert write_grid(Given(rows), tmp_path / "grid.png", 6, 0)[0].isnan().sum() == 1, "a training goes on"


def test_points_are_refused_as_pictures_before_any_work(tmp_path):
    for name in ("x.png", "folder"):
        check_target(tmp_path / name, Space((1, 8, 8)))
        with pytest.raises(RequestError, match=r"these samples are points; write them to a \.npz file"):
            check_target(tmp_path / name, Space((2,)))
    check_target(tmp_path / "x.npz", Space((2,)))


def test_wrong_requests_of_the_library_are_told():
    model, classed = Given(torch.zeros(6, 2)), Given(torch.zeros(6, 2), classes=10)
    for told, asked in (
        ("count = 'x': write a whole number", {"count": "x"}),
        ("count = 2.5: write a whole number", {"count": 2.5}),
        ("count = True: write a whole number", {"count": True}),
        ("cannot draw 0 samples", {"count": 0}),
        ("seed = None: write a whole number", {"seed": None}),
        ("seed = 1.5: write a whole number", {"seed": 1.5}),
        ("batch = 0: at least 1", {"batch": 0}),
        ("batch = -1: at least 1", {"batch": -1}),
        ("no precision 'x'; known: auto, fp32, bf16", {"precision": "x"}),
        ("how is of type int: leave it out, or give reverie.sampling_of", {"how": 5}),
        ("how is of type dict: leave it out", {"how": {"steps": 5}}),
    ):
        for some in (model, classed):
            with pytest.raises(RequestError, match=told):
                sample(some, **{"count": 3, **asked})
    for told, labels in (
        ("labels = 'a': write whole numbers", "a"),
        ("labels = 3.7: write whole numbers", 3.7),
        ("labels = nan: write whole numbers", float("nan")),
        ("labels = True: write whole numbers", True),
        ("write whole numbers", [1, 2, None]),
        ("write whole numbers", torch.tensor([1.0, torch.nan, 2.0])),
        ("write whole numbers", torch.zeros(3, 1, dtype=torch.int64)),
        ("2 labels for 3 samples", [1, 2]),
        ("0 labels for 3 samples", []),
        ("a label is out of range", [1, 2, 10]),
    ):
        with pytest.raises(RequestError, match=told):
            sample(classed, 3, labels=labels)
    for labels in (7, np.int64(7), [7, 7, 7], np.array([7, 7, 7]), torch.tensor(7), torch.tensor([7] * 3).int()):
        assert sample(classed, np.int64(3), np.int64(5), labels=labels, batch=2).labels.tolist() == [7, 7, 7]


def test_guidance_without_labels_is_not_passed_over():
    model = reverie.create("flow-matching", Space((2,)))
    how = model.config.sampling.model_copy(update={"guidance": 7.0, "steps": 1})
    with pytest.raises(RequestError, match="guidance = 7 leads towards a label, and this model has none"):
        sample(model, 2, how=how)
    assert sample(model, 2, how=how.model_copy(update={"guidance": 1.0})).x.shape == (2, 2)


def test_settings_of_images_are_told_where_rows_are_points():
    notes = open_data(DataConfig(source="ring", flip=True, size=16)).notes
    assert "these rows are points: size, flip are of images, and not looked at" in notes
    assert not any("of images" in note for note in open_data(DataConfig(source="ring")).notes)
