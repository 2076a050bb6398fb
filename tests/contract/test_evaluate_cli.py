"""``reverie evaluate`` on runs and data that are not well: two lines at most, and what was computed is kept."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import reverie
from reverie.cli.main import run as main
from reverie.core.run import Run
from reverie.evaluation.measures import cost


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["reverie", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "vae"
    changes = ["train.grids=0", "data.condition=none", "data.size=16"]
    return reverie.train("vae", "digits", out=out, steps=1, quiet=True, changes=changes)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "TIMED", 0.0)


def report(run: Run) -> dict:
    return json.loads((run.report / "report.json").read_text())


def said(capsys: pytest.CaptureFixture) -> str:
    """What went to stderr that is a complaint: progress is written dim, before it."""
    lines = capsys.readouterr().err.strip().splitlines()
    found = next(i for i, line in enumerate(lines) if "not measured" in line or line.startswith("reverie:"))
    assert len(lines[found:]) <= 2
    return "\n".join(lines[found:])


def test_too_few_samples(trained: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    assert command(monkeypatch, "evaluate", str(trained.folder), "-n", "3") == 2
    assert "16" in capsys.readouterr().err


def test_a_journal_without_a_training(
    trained: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    run = shutil.copytree(trained.folder, tmp_path / "run")
    (run / "journal.jsonl").write_text('garbage{\n{"a": 1}\n{"ev')
    assert command(monkeypatch, "evaluate", str(run), "--doctor") == 2
    assert "holds no values of a training" in said(capsys)


def test_data_of_another_shape(trained: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    assert command(monkeypatch, "evaluate", str(trained.folder), "--data", "moons", "-n", "16") == 2
    assert "the data's rows are (2,), the model's (1, 16, 16)" in said(capsys)


def test_a_model_that_draws_nan(
    trained: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in (trained.recipe_file, trained.folder / "journal.jsonl"):
        (broken / file.name).write_bytes(file.read_bytes())
    weights = load_file(trained.model_file)
    with safe_open(trained.model_file, framework="pt") as header:
        metadata = header.metadata()
    name = next(k for k in weights if k.startswith("decoder") and weights[k].is_floating_point())
    weights[name] = torch.full_like(weights[name], float("nan"))
    save_file(weights, broken / "model.safetensors", metadata)
    assert command(monkeypatch, "evaluate", str(broken), "-n", "32", "--features", "random") == 1
    complaint = said(capsys)
    assert "32 of the samples 0 to 31" in complaint
    assert "not finite: the model broke" in complaint
    assert "parameters" in report(Run(broken))["figures"]  # what does not need samples is kept
    assert (broken / "report" / "report.html").is_file()


def test_rows_that_are_all_the_same(
    trained: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    """Features without variance: distances are finite, and nothing is divided by nothing."""
    folder = tmp_path / "flat"
    folder.mkdir()
    for i in range(40):
        Image.fromarray(np.full((16, 16), 77, dtype=np.uint8)).save(folder / f"{i}.png")
    code = command(
        monkeypatch, "evaluate", str(trained.folder), "--data", str(folder), "-n", "128", "--features", "random"
    )
    found = report(trained)
    assert code == (1 if found["failed"] else 0)
    assert found["figures"]["frechet_distance"]["real"]["value"] == pytest.approx(0.0, abs=1e-6)
    assert found["figures"]["frechet_distance"]["value"] > 0
    assert found["failed"] == {}, capsys.readouterr().err


def test_samples_are_measured_as_they_are_asked_to_be_drawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    changes = ["train.grids=0", "data.condition=none", "data.size=8", "model.network.width=8"]
    run = reverie.train("flow-matching", "digits", out=tmp_path / "run", steps=1, quiet=True, changes=changes)
    asked = ["-n", "16", "--features", "random", "--likelihood-rows", "2"]
    command(monkeypatch, "evaluate", str(run.folder), "solver=heun", "steps=3", *asked)
    found = report(run)
    assert found["asked"]["sampling"] == {"solver": "heun", "steps": 3}
    assert found["figures"]["network_evaluations"]["value"] == 5, "two in each step but the last"
    assert "drawn with <b>steps=3, solver=heun</b>" in (run.report / "report.html").read_text()
    capsys.readouterr()
    assert command(monkeypatch, "evaluate", str(run.folder), "step=3", *asked) == 2
    assert "did you mean 'steps'" in said(capsys)
    assert command(monkeypatch, "evaluate", str(run.folder), "guidance=2", *asked) == 2
    assert "this model has none" in said(capsys)
