"""The doctor's rules on histories written by hand, on both sides of each threshold, and on trainings made sick."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import reverie
from reverie.core.errors import ReverieError
from reverie.core.run import Run
from reverie.models.diffusion.ddpm import DDPM
from reverie.models.diffusion.diffusion import Diffusion
from reverie.training import sitting
from reverie.training.checkup import _within
from reverie.training.display import Live
from reverie.training.doctor import diagnose, examine, verdict
from reverie.training.doctor.history import History, read_history

RECIPE = {
    "model": {"name": "gan", "generator_optimizer": {"lr": 1e-3}, "discriminator_optimizer": {"lr": 2e-3}, "beta": 1.0},
    "train": {"batch": 32},
}


def found(
    values: dict[str, Sequence[float]], signs: dict[str, Sequence[float]] | None = None, **more: Any
) -> list[str]:
    history = History(values, signs or {}, **{"recipe": RECIPE, **more})
    return [finding.name for finding in examine(history)]


def game(told: float = 0.8, loss: float = 0.5, lines: int = 40) -> dict[str, list[float]]:
    return {
        "discriminator/adversarial": [1.0] * 4 + [loss] * (lines - 4),
        "discriminator/told apart": [0.5] * 4 + [told] * (lines - 4),
        "generator/adversarial": [1.0] * lines,
    }


def test_healthy_histories_are_left_alone() -> None:
    assert found(game()) == []
    assert found({}) == []
    assert found({"vae/kl": list(np.geomspace(10, 1, 30)), "vae/gradient": [1.0] * 30}) == []


def test_mode_collapse_needs_two_checkups() -> None:
    assert found(game(), {"diversity": [0.9, 0.39, 0.38]}) == ["mode collapse"]
    assert found(game(), {"diversity": [0.9, 0.41, 0.1]}) == []
    assert found(game(), {"diversity": [0.1, 0.11, 0.12]}, fraction=0.9) == []  # on its way
    assert found(game(), {"diversity": [0.1, 0.11, 0.12]}) == ["mode collapse"]  # and has not arrived
    assert found(game(), {"diversity": [0.1, 0.11, 0.111]}) == ["mode collapse"]
    assert found(game(), {"diversity": [0.1]}, fraction=0.1) == []
    assert found(game(), {"diversity": [0.1], "active latents": [0.0]}, rounds=49) == []  # too young to tell
    assert found(game(), {"diversity": [0.1]}, rounds=50) == ["mode collapse"]
    assert found(game(), {"diversity": [0.9, 0.9], "diversity within classes": [0.2, 0.2]}) == ["mode collapse"]
    assert found(game(), {"diversity": [0.9, 0.9], "diversity within classes": [0.2, 0.5]}) == []


def test_discriminators_too_strong_and_too_weak() -> None:
    assert found(game(told=1.0, loss=0.004)) == ["discriminator too strong"]
    assert found(game(told=1.0, loss=0.006)) == []
    assert found(game(told=0.985, loss=0.004)) == []
    assert found(game(told=1.0, loss=-0.3)) == [], "a loss that falls below zero has no floor"
    assert found(game(told=0.59, loss=1.0)) == ["discriminator too weak"]
    assert found(game(told=0.61, loss=1.0)) == []
    assert found(game(told=0.55, loss=0.5)) == [], "it has learnt something"


def test_gradients_that_vanish_and_explode() -> None:
    def norms(late: float) -> dict[str, list[float]]:
        return {"generator/gradient": [1.0] * 20 + [late] * 10, "critic/gradient": [1.0] * 30}

    assert found(norms(0.9e-3)) == ["vanishing gradient"]
    assert found(norms(1.1e-3)) == []
    assert found(norms(51.0)) == ["exploding gradient"]
    assert found(norms(49.0)) == []
    assert found({"generator/gradient": [20.0] + [0.01] * 20 + [2.0] * 9}) == [], "above its median, below its start"
    cut = {"model": {"generator_optimizer": {"lr": 1e-3, "clip": 0.5}}}
    assert found(norms(51.0), recipe=cut) == [], "no step is too long"
    assert found(norms(0.6e-3), recipe=cut) == [], "from 0.5, as the optimiser takes it, not from 1"
    assert found(norms(0.4e-3), recipe=cut) == ["vanishing gradient"]


def test_oscillation_is_of_smooth_swings() -> None:
    x, noise = np.arange(200), np.random.Generator(np.random.Philox(0)).normal(0, 0.05, 200)
    swings = {"discriminator/adversarial": [1.0] * 200, "generator/adversarial": list(1 + np.sin(x / 3) + noise)}
    assert found(swings) == ["oscillation"]
    assert found({**swings, "generator/adversarial": list(1 + noise)}) == []
    assert found({**swings, "generator/adversarial": list(1 + x / 50 + noise)}) == []
    assert found({**swings, "generator/adversarial": list(1 + np.sin(x / 12) + noise)}) == [], "it only drifts"
    assert found({"vae/adversarial": swings["generator/adversarial"]}) != ["oscillation"], "it takes two"


def test_posterior_collapse_and_its_remedy() -> None:
    assert found({}, {"active latents": [0.09, 0.09]}) == ["posterior collapse"]
    assert found({}, {"active latents": [0.09, 0.11]}) == []
    history = History({}, {"active latents": [0.0, 0.0]}, recipe=RECIPE)
    assert examine(history)[0].change == ("model.beta=0.1",)
    diffusion = {**RECIPE, "capabilities": ["Denoises", "Bounds", "Encodes", "Decodes"]}
    assert found({}, {"active latents": [0.0, 0.0]}, recipe=diffusion) == [], "noise, not a belief"


def test_overfitting_by_likelihood_and_by_scores() -> None:
    assert found({}, {"likelihood gap": [0.2, 0.16]}) == ["overfitting"]
    assert found({}, {"likelihood gap": [0.2, 0.14]}) == []
    assert found({}, {"score gap": [0.6, 0.6]}) == ["overfitting"]
    assert found({}, {"score gap": [0.6]}) == []


def test_learning_rates_of_a_single_player() -> None:
    falling = {"vae/loss": [1.0 - 0.001 * i for i in range(40)]}
    assert found(falling) == ["learning rate too low"]
    assert found({"vae/loss": [1.0 - 0.006 * i for i in range(40)]}) == []
    rising = {"vae/loss": [1.0, *np.linspace(0.9, 0.2, 20), *np.linspace(0.2, 0.5, 20)]}
    assert found(rising) == ["learning rate too high"]
    assert found({"vae/loss": [1.0] + [2.0] * 30}) == ["learning rate too high"]
    noise = np.random.Generator(np.random.Philox(0)).normal(0, 0.05, 40)
    assert found({"vae/loss": [1.2, *(1.1 + noise)]}) == [], "what rises is noise"


def test_too_few_rounds_are_no_clean_bill() -> None:
    assert verdict(History(game(), rounds=12)) == "12 rounds: too few to judge (50 at least)"
    assert verdict(History(game(), rounds=50)) == "no fault found in the journal's values and checkups"
    broken = History({}, rounds=12, failed={"player": "vae", "term": "kl", "round": 12}, recipe=RECIPE)
    assert verdict(broken).startswith("not a number (fault, 100% sure): the vae's term 'kl'")


def test_under_training_is_advice_with_its_figures() -> None:
    looks = [{"seconds": s, "frechet_distance": d} for s, d in ((30, 100.0), (60, 40.0), (120, 30.0))]
    (finding,) = examine(History({}, learning=looks))
    assert finding.kind == "advice"
    assert "25% per doubling" in finding.seen
    assert "2.0 more minutes" in finding.seen
    assert finding.change == ("train.time=240s",)
    looks[-1]["frechet_distance"] = 37.0
    assert examine(History({}, learning=looks)) == []


def test_damaged_looks_at_quality_are_passed_over(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.report.mkdir()
    whole = b'{"seconds": 30, "frechet_distance": 9.5}\n'
    (run.report / "learning.jsonl").write_bytes(whole + b'3\n\xff\n{"seconds": 60}\n' + whole + b'{"seconds": 90, "fre')
    assert read_history(run).learning == [{"seconds": 30, "frechet_distance": 9.5}] * 2


def test_suggestions_are_settings_of_the_recipe() -> None:
    history = History(game(told=1.0, loss=0.001), recipe=RECIPE)
    assert "model.discriminator_optimizer.lr=0.0006" in examine(history)[0].change
    assert History({}, recipe=RECIPE).change("model.nothing", 2.0) == ()


def test_a_training_that_breaks_off_is_named(tmp_path: Path) -> None:
    """Two real ones: a rate beyond all measure, and one that a clipped gradient cannot save."""
    for name, changes in {
        "a": ["model.optimizer.lr=1e30"],
        "b": ["model.optimizer.lr=1e20", "model.optimizer.clip=1"],
    }.items():
        changes = [*changes, "model.optimizer.warmup=0", "train.batch=16", "train.grids=0"]
        with pytest.raises(ReverieError, match="step"):
            reverie.train("vae", "ring", out=tmp_path / name, steps=60, changes=changes, quiet=True)
        first = diagnose(tmp_path / name)[0]
        assert first.name == "not a number"
        assert "vae" in first.seen
        assert any(change.startswith("model.optimizer.lr=") for change in first.change)


def test_diversity_within_classes() -> None:
    """Classes 0 and 1: rows 2 apart in each, samples 1 and 0 apart: (1 + 0) / (2 + 2). Class 2 has one row alone."""
    x, known = torch.tensor([[0.0], [2.0], [5.0], [7.0], [9.0]]), torch.tensor([0, 0, 1, 1, 2])
    samples, labels = torch.tensor([[3.0], [4.0], [8.0], [8.0], [0.0], [1.0]]), torch.tensor([0, 0, 1, 1, 2, 2])
    assert _within(x, known, samples, labels) == {"diversity within classes": 0.25}
    assert _within(x, torch.full((5,), -1), samples, labels) == {}  # nothing is known


def test_checkups_are_written_and_change_nothing(tmp_path: Path) -> None:
    """The weights of a run with checkups are those of a run without; signs by capability."""
    runs = []
    for grids in (2, 0):
        changes = ["train.batch=16", f"train.grids={grids}", "train.grid_size=16", "data.condition=none"]
        runs.append(reverie.train("dcgan", "digits", out=tmp_path / str(grids), steps=4, changes=changes, quiet=True))
    assert runs[0].model_file.read_bytes()[-4000:] == runs[1].model_file.read_bytes()[-4000:]
    (first, *_) = [event["values"] for event in runs[0].journal() if event["event"] == "checkup"]
    assert set(first) == {"diversity", "score gap"}
    vae = reverie.train("vae", "digits", out=tmp_path / "vae", steps=2, changes=["train.batch=16"], quiet=True)
    signs = [event["values"] for event in vae.journal() if event["event"] == "checkup"]
    assert set(signs[-1]) == {"diversity", "diversity within classes", "active latents", "likelihood gap"}
    assert Run(vae.folder).journal_file.is_file()
    assert not any(event["event"] == "checkup" for event in runs[1].journal())


@pytest.mark.parametrize("name", ["ddpm", "edm"])
def test_a_checkup_never_runs_a_sampler_backwards(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A diffusion model's code and bound cost many passes, and say nothing of a posterior."""

    def costly(*_: object) -> None:
        raise AssertionError("many passes")

    for model in (DDPM, Diffusion):
        monkeypatch.setattr(model, "encode", costly)
        monkeypatch.setattr(model, "elbo", costly)
    changes = ["train.batch=16", "train.grids=1", "model.sampling.steps=2"]
    run = reverie.train(name, "ring", out=tmp_path / "run", steps=2, changes=changes, quiet=True)
    assert [set(event["values"]) for event in run.journal() if event["event"] == "checkup"] == [{"diversity"}]


def test_a_grid_is_told_while_it_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a terminal the line says so between two rounds, and then what it said before."""
    told: list[str] = []

    class Watched(Live):
        def doing(self, what: str) -> None:
            super().doing(what)
            told.append(f"{len(list((tmp_path / 'run').glob('samples/*.png')))} {self._bar.tasks[0].fields['text']}")

    monkeypatch.setattr(sitting, "pick_display", lambda *_: Watched("vae", 0.0))
    changes = ["train.batch=16", "train.grids=2", "train.log_every=1"]
    reverie.train("vae", "ring", out=tmp_path / "run", steps=4, changes=changes)
    assert [line.split("  ")[0] for line in told] == [
        "0 drawing samples",
        "1 32 images",
        "1 drawing samples",
        "2 64 images",
    ]
