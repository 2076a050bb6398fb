"""Tags: read from what stands beside pictures, drawn by a GAN, counted, measured, and written beside pictures."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

import reverie
from reverie.cli.main import app
from reverie.core.batch import Batch, Condition
from reverie.core.errors import RequestError
from reverie.core.model import Model, ModelConfig
from reverie.core.noise import KeyedNoise, Noise
from reverie.core.player import Progress, Turn
from reverie.core.sampling import sample
from reverie.core.space import Space
from reverie.data import DataConfig, open_data
from reverie.data.feed import Feed
from reverie.data.inspect import inspect
from reverie.data.tags import multi_hot, survey, tags_of, vocabulary
from reverie.edit.asked import Asked
from reverie.edit.draw import draw
from reverie.edit.tagging import most_common
from reverie.evaluation.measures.tags import measure
from reverie.maths.tagging import precision_and_recall
from reverie.models.gan import tags
from reverie.training.build import read_model_header

WORDS = (["sea", "boat"], ["sea"], ["hill", "sea"], ["hill", "tree"], [], ["tree", "once"])
MLP = {"encoder": "mlp", "generator": "mlp", "discriminator": "mlp"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures of one grey each, 10 times their number, tagged as ``WORDS`` has it."""
    place = tmp_path / "pictures"
    place.mkdir()
    for i in range(len(WORDS)):
        Image.new("L", (8, 8), 10 * i).save(place / f"{i}.png")
    lines = [json.dumps({"file_name": f"{i}.png", "tags": words, "text": "x"}) for i, words in enumerate(WORDS)]
    (place / "metadata.jsonl").write_text("\n".join(lines))
    return place


def opened(source: Path | str, **changes: Any) -> Any:
    return open_data(DataConfig(source=str(source), condition="picture", held_out=0.0, **changes))


def test_tags_are_a_list_or_words_or_attributes() -> None:
    assert tags_of({"tags": ["boat", "sea", "boat", " "], "hat": True}) == ["boat", "sea"]
    assert tags_of({"tags": "boat, sea"}) == ["boat", "sea"]
    row = {"text": "a ring", "file_name": "a.png", "hat": True, "bald": False, "hair": "cap", "beard": None, "year": 7}
    assert tags_of(row) == ["hat", "hair: cap"]
    objects = [{"shape": "ring", "box": [0, 1, 2, 3]}, {"shape": "star"}, {"shape": "ring"}]
    assert tags_of({"ground": "white", "objects": objects}) == ["ground: white", "shape: ring", "shape: star"]


def test_a_vocabulary_has_the_most_common_tags_first_and_leaves_single_ones_out() -> None:
    assert vocabulary(WORDS, 10) == ("sea", "hill", "tree")
    assert vocabulary(WORDS, 2) == ("sea", "hill"), "equally common ones by name, and a cut"
    assert multi_hot([["tree", "once"], []], ("sea", "tree")).tolist() == [[0, 1], [0, 0]]


def test_tags_are_counted_and_what_cannot_be_one_is_named() -> None:
    table: list[dict[str, Any]] = [
        {"tags": ["sea", "boat"], "year": 1999},  # with tags of its own attributes do not count
        {"tags": "sea"},
        {"tags": 5, "hat": True},
        {"tags": ["sea", {"name": "x"}]},
        {"tags": None, "text": "x", "index": 3, "label": 7, "hat": False},
        {"year": 2001, "size": 1.5, "hat": True},
    ]
    found = survey(table)
    assert (found.rows, found.tagged) == (6, 5)
    assert found.counts == {"sea": 3, "boat": 1, "hat": 2}
    malformed, numbers = found.notes
    assert malformed.startswith("the tags of 2 rows are no list of words, and passed over")
    assert "(size of 1, year of 1 rows)" in numbers
    assert survey(table[:2]).notes == ()
    assert tags_of(table[3]) == ["sea"], "what is a word stays"


def test_what_a_source_has_of_tags_is_told(folder: Path) -> None:
    lines = (folder / "metadata.jsonl").read_text().splitlines()
    lines[0] = json.dumps({"file_name": "0.png", "tags": 3})
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    note = "ags of 1 row is no list of words"
    assert any(note in said for said in opened(folder).notes), "training hears of it"
    report = inspect(DataConfig(source=str(folder)))
    assert report.tags is not None
    assert report.tags.counts["hill"] == 2
    assert any(f"The t{note}" in said and said.endswith(".") for said in report.advice)
    told = CliRunner().invoke(app, ["data", str(folder), "-o", str(folder / "sheet.png")]).stdout
    words = " ".join(told.split())
    assert "tags 4 of 6 rows have some, of 4: sea 2, hill 2, tree 2, once 1" in words
    assert inspect(DataConfig(source="ring")).tags is None


def test_rows_are_the_tags_of_their_pictures(folder: Path) -> None:
    data = opened(folder)
    assert data.space == Space((3,), count=6, picture=(1, 8, 8))
    assert data.config.tags == ("sea", "hill", "tree")
    x, condition = data.train.take(np.arange(6))
    grey = ((condition.image[:, 0, 0, 0] + 1) * 12.75).round().int().tolist()
    assert sorted(grey) == list(range(6))
    for i, row in zip(grey, x.tolist(), strict=True):
        assert row == [float(name in WORDS[i]) for name in data.config.tags]
    named = opened(folder, tags=["tree", "boat"])
    assert named.train.take(np.arange(6))[0].sum(0).tolist() == [2.0, 1.0], "tags asked for by name, in that order"
    assert named.hash != data.hash
    turned = Feed(opened(folder, flip=True, turn=True), 0).batch(0, 6)
    assert turned.x.shape == (6, 3)
    assert turned.condition.image.shape == (6, 1, 8, 8)


def test_a_class_is_a_tag_where_there_are_no_others() -> None:
    data = open_data(DataConfig(source="digits", condition="picture"))
    x, condition = data.train.take(np.arange(50))
    assert condition.label is None
    assert [data.config.tags[k] for k in x.argmax(1)] == [str(label) for label in data.train.labels[:50]]
    assert x.sum(1).tolist() == [1.0] * 50


def test_bad_requests_are_told_in_a_sentence(folder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for i in range(3):
        Image.new("L", (8, 8), i).save(bare / f"{i}.png")
    with pytest.raises(RequestError, match=r"has no tags that two training rows share: write .* metadata\.jsonl"):
        opened(bare)
    with pytest.raises(RequestError, match=r"has no tag 'hil'.*hill"):
        opened(folder, tags=["sea", "hil"])
    with pytest.raises(RequestError, match=r"leave data\.maps out"):
        opened(folder, maps="edges")
    with pytest.raises(RequestError, match=r"needs data\.condition=picture"):
        reverie.create("cgan-tags", Space((1, 8, 8)))
    data = opened(folder)
    model = reverie.create("cgan-tags", data.space)
    with pytest.raises(RequestError, match="draws from rows of 1x8x8; those of digits are 1x28x28"):
        open_data(DataConfig(source="digits")).asks(model.space)
    with pytest.raises(RequestError, match="pictures given are 1x9x9; this model draws from 1x8x8"):
        sample(model, 2, condition=Condition(image=torch.zeros(2, 1, 9, 9)))
    with pytest.raises(RequestError, match="draws from pictures of 1 channel: give it some"):
        sample(model, 2)


def test_any_pictures_of_the_size_can_be_tagged(folder: Path) -> None:
    data = opened(folder)
    plain = open_data(DataConfig(source=str(folder), held_out=0.0))
    ids = torch.arange(6)
    assert torch.equal(plain.asks(data.space)(ids).image, data.asks(data.space)(ids).image)


def test_precision_and_recall_of_the_most_likely_tags() -> None:
    scores = torch.tensor([[0.9, 0.8, 0.1, 0.0], [0.2, 0.9, 0.3, 0.1], [1.0, 1.0, 1.0, 1.0]])
    known = torch.tensor([[1, 0, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]])
    precision, recall = precision_and_recall(scores, known, 2)
    assert precision.tolist() == [0.5, 1.0], "a row without a tag is not asked"
    assert recall.tolist() == pytest.approx([1 / 3, 1.0])
    precision, recall = precision_and_recall(torch.tensor([0.1, 0.2, 0.2, 0.0]), known, 2)
    assert precision.tolist() == [0.5, 1.0]
    assert recall.tolist() == pytest.approx([1 / 3, 1.0])
    assert precision_and_recall(scores, known, 9)[0].tolist() == [0.75, 0.5], "at most all of them"


def test_d_judges_pairs_of_a_picture_and_tags() -> None:
    """By hand, with D(t, x) = a t + b e(x) + t_0 e(x) and e(x) the mean of x."""
    space = Space((2,), picture=(3,))
    model = tags.TagGAN(tags.Config(latent=2, features=1, penalties={"r1": 3.0, "r2": 5.0}, **MLP), space, {})
    a, b = torch.tensor([0.5, -2.0]), 7.0

    def seen(x: Tensor) -> Tensor:
        return x.mean(1, keepdim=True)

    for name in ("encoder", "critic_encoder", "generator", "discriminator"):
        delattr(model, name)
    model.encoder = model.critic_encoder = seen
    model.generator = lambda z: z[:, :2] + 10.0 * z[:, 2:]  # the picture's features come after z
    model.discriminator = lambda pair: pair[:, :2] @ a + b * pair[:, 2] + pair[:, 0] * pair[:, 2]
    pictures = torch.tensor([[0.1, 0.2, 0.3], [-0.4, -0.2, 0.0]])
    t, e = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([0.2, -0.2])
    ids = torch.arange(2)
    turn = Turn(Batch(t, Condition(image=pictures), ids, ids), KeyedNoise(0, ids, "test"), Progress())
    drawn = turn.noise.fork("z").normal(2) + 10.0 * e[:, None]
    real, fake = (tags @ a + b * e + tags[:, 0] * e for tags in (t, drawn))
    slope = ((0.5 + e).square() + 4.0).mean() / 2  # of D in t: (a_0 + e, a_1)
    terms = {name: term.detach() for name, term in model.discriminator_loss(turn).terms.items()}
    assert float(terms["adversarial"]) == pytest.approx(float(torch.log1p(torch.exp(fake - real)).mean()), rel=1e-5)
    assert float(terms["r1"]) == pytest.approx(3.0 * float(slope), rel=1e-5)
    assert float(terms["r2"]) == pytest.approx(5.0 * float(slope), rel=1e-5)
    answer = model.generator_loss(turn).terms["adversarial"]
    assert float(answer) == pytest.approx(float(torch.log1p(torch.exp(real - fake)).mean()), rel=1e-5)


def test_tags_are_counted_over_draws_of_z() -> None:
    model = tags.TagGAN(tags.Config(latent=2, features=1, **MLP), Space((2,), picture=(3,)), {})
    del model.generator
    model.generator = lambda z: (z[:, :2] > 0.5).float() * 3.0 - 1.0  # leaves [0, 1] on both sides
    found = model.tag(torch.zeros(2000, 3), KeyedNoise(0, torch.arange(2000), "test"), 10)
    assert found.shape == (2000, 2)
    assert float(found.mean()) == pytest.approx(0.3085, abs=0.005), "the share of normals above a half"
    tenths = 10 * found
    assert torch.allclose(tenths, tenths.round(), atol=1e-4), "each draw counts as one, however far it leaves [0, 1]"
    assert most_common(torch.tensor([0.2, 0.5, 0.2]), ("a", "b", "c"), 2) == [("b", 0.5), ("a", pytest.approx(0.2))]


class Knows(Model):
    """Gives held-out pictures the tags of a list."""

    def __init__(self, space: Space, known: Tensor, pictures: Tensor) -> None:
        super().__init__(ModelConfig(), space, {})
        self.known, self.pictures = torch.nn.Parameter(known), pictures

    def tag(self, x: Tensor, noise: Noise, draws: int) -> Tensor:
        assert torch.equal(x, self.pictures[noise.ids]), "noise goes by the row"
        return self.known[noise.ids]

    def sample(self, noise: Noise, condition: Condition | None = None, how: Any = None) -> Tensor:
        raise AssertionError


def test_right_tags_are_held_against_the_most_common_ones() -> None:
    data = open_data(DataConfig(source="emoji", condition="picture", tags=20))
    x, condition = data.held_out.take(np.arange(len(data.held_out)))
    some = x[x.any(1)]
    common = data.train.take(np.arange(len(data.train)))[0].mean(0)
    assert bool((common.diff() <= 0).all()), "tags stand in the order of their frequency"

    def figures(known: Tensor) -> Any:
        model = Knows(data.space, known, condition.image)
        recipe = lambda *parts: " ".join(map(str, parts))  # noqa: E731
        return measure(
            SimpleNamespace(model=model, dataset=data, count=1000, batch=64, seed=0, recipe=recipe, left_out={})
        )

    right, blind = figures(x), figures(common.expand_as(x).contiguous())
    ideal = float((some.sum(1).clamp(max=3) / 3).mean())
    assert right["tag_precision"].estimate.value == pytest.approx(ideal, rel=1e-5)
    assert right["tag_precision"].real.value == pytest.approx(ideal, rel=1e-5)
    assert right["tag_recall"].estimate.value == pytest.approx(float((some.sum(1).clamp(max=3) / some.sum(1)).mean()))
    share = float(some[:, :3].sum(1).mean() / 3)
    assert blind["tag_precision"].estimate.value == pytest.approx(share, rel=1e-5)
    assert blind["tag_precision_blind"].estimate == blind["tag_precision"].estimate
    assert right["tag_recall_blind"].estimate == blind["tag_recall"].estimate
    assert right["tag_precision"].rows == len(some)


def test_a_run_keeps_its_tags_and_writes_them_beside_pictures(folder: Path, tmp_path: Path) -> None:
    changes = {"train.batch": 4, "train.grids": 0, "data.held_out": 0.0, "model.features": 8}
    run = reverie.train("cgan-tags", str(folder), out=tmp_path / "run", steps=2, changes=changes, quiet=True)
    recipe, space, _ = read_model_header(run.model_file)
    assert recipe.data["tags"] == ["sea", "hill", "tree"]
    assert space == Space((3,), count=6, picture=(1, 8, 8))
    (folder / "metadata.jsonl").write_text(
        "\n".join(json.dumps({"file_name": f"{i}.png", "tags": ["new", "sea", "hill", "tree"]}) for i in range(6))
    )
    assert open_data(DataConfig.read(run.recipe.data, "data")).config.tags == ("sea", "hill", "tree")
    said: list[str] = []
    asked = Asked(rows="0,2", settings=("top=2", "draws=3"))
    out = draw(run.folder, "tag", asked, out=tmp_path / "tags.png", device="cpu", say=said.append)
    with Image.open(out) as image:
        assert image.height == 2 * 104 + 8
    assert len(said) == 2
    assert said[1].startswith("row 2: ")
    assert said[1].endswith("(in the data: sea, hill, tree)")
    Image.new("RGB", (20, 20)).save(tmp_path / "large.png")
    said.clear()
    draw(run.folder, "tag", Asked(images=(tmp_path / "large.png",)), out=out, device="cpu", say=said.append)
    assert said[0] == "large.png: 20x20, its middle square resized to 8x8"
    assert said[1].count("%") == 3
    assert "in the data" not in said[1]
    for asked, match in (
        (Asked(rows="9"), "there is no row 9; rows are 0 to 5"),
        (Asked(settings=("most=2",)), "unknown key 'most'"),
        (Asked(rows="0", images=(out,)), "not both"),
    ):
        with pytest.raises(RequestError, match=match):
            draw(run.folder, "tag", asked, out=out, device="cpu")
    with pytest.raises(RequestError, match=r"tag writes a .png file"):
        draw(run.folder, "tag", out=tmp_path / "tags.gif", device="cpu")
    other = reverie.train("gan", str(folder), out=tmp_path / "gan", steps=1, changes={"train.batch": 4}, quiet=True)
    with pytest.raises(RequestError, match="draws no tags"):
        draw(other.folder, "tag", out=out, device="cpu")
