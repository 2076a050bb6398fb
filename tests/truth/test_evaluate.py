"""``evaluate`` from end to end on runs of a few steps, and the features behind it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import reverie
from reverie.core.images import to_bytes, to_pillow
from reverie.core.run import Run
from reverie.data import DataConfig, open_data
from reverie.evaluation.evaluate import evaluate
from reverie.evaluation.features import classifier as module
from reverie.evaluation.features.classifier import shifted, train_classifier, trained_classifier
from reverie.evaluation.features.features import choose_features, random_features
from reverie.evaluation.frechet import frechet_distance
from reverie.evaluation.measures import cost
from reverie.evaluation.moments import Moments
from reverie.report.page import write_page


def silent(line: str) -> None:
    return None


def test_classifier_is_trained_once_and_the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VIEWS", 40 * module.BATCH)
    dataset = open_data(DataConfig(source="digits"))
    said: list[str] = []
    state = torch.get_rng_state()
    first = trained_classifier(dataset, tmp_path, said.append)
    assert torch.equal(torch.get_rng_state(), state)
    unconditional = open_data(DataConfig(source="digits", condition="none"))
    again = trained_classifier(unconditional, tmp_path, said.append)
    assert len(said) == 1  # read back, for a run without labels too
    assert again.accuracy == first.accuracy > 0.6
    for one, two in zip(first.network.state_dict().values(), again.network.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    short = train_classifier(dataset, views=2 * module.BATCH), train_classifier(dataset, views=2 * module.BATCH)
    for one, two in zip(short[0].network.parameters(), short[1].network.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_damaged_classifier_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VIEWS", module.BATCH)
    dataset = open_data(DataConfig(source="digits"))
    said: list[str] = []
    trained_classifier(dataset, tmp_path, said.append)
    (file,) = tmp_path.rglob("classifier.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    trained_classifier(dataset, tmp_path, said.append)
    assert len(said) == 2
    assert file.read_bytes() == whole
    trained_classifier(dataset, tmp_path, said.append)
    assert len(said) == 2


def test_shifts_keep_the_image_and_repeat_its_edge() -> None:
    class Corner:
        def integers(self, high: int, *shape: int) -> torch.Tensor:
            assert high == 5
            return torch.tensor([[2, 2], [0, 4]])

    image = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    moved = shifted(np.concatenate([image, image]), Corner())  # type: ignore[arg-type]
    assert torch.equal(((moved + 1) * 127.5).round().byte()[0], torch.from_numpy(image[0]))
    # Two rows up and two columns right of the middle: the top row stands three times, the last column too.
    expected = [[2, 3, 3, 3], [2, 3, 3, 3], [2, 3, 3, 3], [6, 7, 7, 7]]
    assert ((moved + 1) * 127.5).round()[1, 0].int().tolist() == expected


def test_random_features_order_corruptions() -> None:
    x = torch.from_numpy(open_data(DataConfig(source="digits")).train.pixels(np.arange(600))).float() / 127.5 - 1
    extract = random_features((1, 28, 28))
    assert torch.equal(extract(x[:5]), random_features((1, 28, 28))(x[:5]))
    generator = torch.Generator().manual_seed(0)

    def distance(y: torch.Tensor) -> float:
        return frechet_distance(Moments(128).add(extract(x[:300])), Moments(128).add(extract(y)))

    noise = torch.randn(300, 1, 28, 28, generator=generator)
    same, little, much = (distance(x[300:] + scale * noise) for scale in (0.0, 0.2, 0.8))
    assert same < little < much


def test_points_are_their_own_features() -> None:
    said: list[str] = []
    dataset = open_data(DataConfig(source="moons"))
    features = choose_features(dataset, say=said.append)
    assert (features.name, features.size) == ("coordinates", 2)
    points = torch.randn(4, 2)
    assert torch.equal(features.extract(points), points)


@pytest.mark.parametrize("source", ["digits", "moons"])
def test_evaluate_from_end_to_end(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VIEWS", 10 * module.BATCH)
    monkeypatch.setattr(cost, "TIMED", 0.0)
    run = reverie.train("vae", source, out=tmp_path / "run", steps=2, quiet=True, changes=["train.grid_size=4"])
    report = evaluate(run, samples=128, likelihood_rows=16, cache=tmp_path / "cache", say=silent)
    assert json.loads((run.report / "report.json").read_text()) == report
    figures = report["figures"]
    assert 0 <= figures["frechet_distance"]["real"]["value"] < figures["frechet_distance"]["value"]
    assert figures["coverage"]["value"] < figures["coverage"]["real"]["value"] <= 1
    assert figures["bits_per_dim"]["rows"] == 16
    assert figures["images_per_second"]["value"] > 0
    parameters = sum(p.numel() for p in reverie.load(run).parameters())
    assert figures["parameters"]["value"] == parameters
    assert ("recognised" in figures) == ("nearest_training_row" in figures) == (source == "digits")
    again = evaluate(
        Run(tmp_path / "run"), samples=np.int64(128), batch=50, likelihood_rows=16, cache=tmp_path / "cache", say=silent
    )
    timed = ("images_per_second", "seconds_alone", "training_time")
    for name in figures.keys() - set(timed):
        assert again["figures"][name]["value"] == pytest.approx(figures[name]["value"], rel=1e-3), name
    assert report["failed"] == {}
    assert [name for q in report["questions"] for name in q["figures"]] == list(figures)
    assert write_page(run).stat().st_size > 10_000


def test_a_conditional_model_is_measured_against_rows_without_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "TIMED", 0.0)
    run = reverie.train("vae", "digits", out=tmp_path / "run", steps=1, quiet=True, changes=["train.grids=0"])
    folder, cache = tmp_path / "digits", tmp_path / "cache"
    folder.mkdir()
    for i, x in enumerate(to_bytes(open_data(DataConfig(source="digits")).train.take(np.arange(40))[0])):
        to_pillow(x).save(folder / f"{i}.png")
    said: list[str] = []
    report = evaluate(run, str(folder), samples=16, cache=cache, say=said.append)
    assert report["figures"]["frechet_distance"]["value"] > 0
    assert "bits_per_dim" not in report["figures"]
    assert any("no labels" in line for line in said)


def test_what_was_measured_is_kept_when_a_model_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sampler fails half-way: likelihood and cost are still there, and the reason, once for each question."""
    monkeypatch.setattr(module, "VIEWS", 10 * module.BATCH)
    monkeypatch.setattr(cost, "TIMED", 0.0)
    run = reverie.train("vae", "digits", out=tmp_path / "run", steps=1, quiet=True, changes=["train.grids=0"])
    whole = type(reverie.load(run)).sample

    def breaks(self, noise, condition=None, how=None):  # type: ignore[no-untyped-def]
        if noise.ids.min() >= 128:
            raise RuntimeError("no more\nof it")
        return whole(self, noise, condition, how)

    monkeypatch.setattr(type(reverie.load(run)), "sample", breaks)
    report = evaluate(run, samples=256, batch=64, likelihood_rows=16, cache=tmp_path / "cache", say=silent)
    assert report["failed"]["distances"] == "the model failed while drawing sample 128 of 256: no more"
    assert {"bits_per_dim", "images_per_second"} <= report["figures"].keys()
    assert "no more" in write_page(run).read_text(encoding="utf-8")
