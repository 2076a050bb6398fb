"""Wrong requests to models that denoise, through the command line: a sentence each, and the exit code."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import reverie
from reverie.cli.main import run as command

SMALL = ["model.network.image={name: unet, width: 16, patch: 4}", "train.batch=4"]

SHORT = ["model.steps=20", "model.sampling.steps=5"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, one of T = 20 steps and one that draws from edges, and pictures that fit neither."""
    folder = tmp_path_factory.mktemp("requests")
    reverie.train("ddpm", "digits", out=folder / "run", steps=3, changes=[*SMALL, *SHORT], quiet=True)
    reverie.train(
        "flow-matching", "digits", out=folder / "edged", steps=1, changes=[*SMALL, "data.maps=edges"], quiet=True
    )
    draw = np.random.default_rng(0)
    pictures = {
        "small": draw.integers(0, 2, (14, 14), dtype=np.uint8) * 255,
        "coloured": draw.integers(0, 256, (28, 28, 3), dtype=np.uint8),
        "photo": draw.integers(60, 190, (28, 28), dtype=np.uint8),
        "black": np.zeros((28, 28), np.uint8),
        "white": np.full((28, 28), 255, np.uint8),
        "lines": draw.integers(0, 2, (28, 28), dtype=np.uint8) * 255,
    }
    for name, pixels in pictures.items():
        (folder / name).mkdir()
        Image.fromarray(pixels).save(folder / name / "0.png")
    Image.fromarray(np.stack([pictures["lines"]] * 3, 2)).save(folder / "lines" / "1.png")  # grey, though of 3 channels
    (folder / "crooked.py").write_text("def squared(x):\n    return x * x\n\ndef moved(x):\n    return x + 1\n")
    return folder


def ask(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> int:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["reverie", *arguments, "--device", "cpu"])
    with pytest.raises(SystemExit) as stopped:
        command()
    return int(stopped.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("train ddpm --steps 1 model.steps=20", 2, "steps = 50 is more than this model's T = 20"),
        ("train ddim --steps 1 model.path.steps=10", 2, "steps = 20 is more than this model's T = 10"),
        ("sample run steps=0", 2, "sampling.steps = 0: Input should be greater than or equal to 1"),
        (
            "sample run steps=100000000000",
            2,
            "sampling.steps = 100000000000: Input should be less than or equal to 100000",
        ),
        ("edit run vary steps=100000000000", 2, "steps = 100000000000: Input should be less than or equal to 100000"),
        ("edit run vary -n 100000000000", 2, "--count 100000000000: write 1 to 10,000"),
        ("edit run inpaint resamplings=100000000000", 2, "resamplings = 100000000000: Input should be less than"),
        ("sample run steps=21", 2, "steps = 21 is more than this model's T = 20"),
        ("sample run steps=21 grid=karras", 2, "steps = 21 is more than this model's T = 20"),
        ("sample run steps=4 guidance=1e30 clip=false", 1, "guidance = 1e+30 blows up at step 1 of 4"),
        ("sample run guidance=-1", 2, "sampling.guidance = -1"),
        ("sample run --maps lines", 2, "this model draws from no maps"),
        ("edit run vary steps=0", 2, "steps = 0: Input should be greater than or equal to 1"),
        ("edit run vary steps=21", 2, "steps = 21 is more than this model's T = 20"),
        ("edit run guide steps=4 guidance=1e30", 1, "guidance = 1e+30 blows up at step 1 of 4"),
        ("edit run upscale steps=4 method=dps scale=1e30", 1, "scale = 1e+30 blows up at step"),
        ("edit run inpaint --mask small/0.png", 2, "0.png is 14x14; a mask has the size of the model's images, 28x28"),
        ("edit run inpaint --mask black/0.png", 2, "the mask knows every pixel"),
        ("edit run inpaint --mask white/0.png", 2, "the mask knows no pixel"),
        ("edit run restore --operator crooked.py:squared", 2, "is not linear"),
        ("edit run restore --operator crooked.py:moved", 2, "is not linear"),
        ("sample edged --fit", 2, "--fit is of --maps"),
        ("sample run --fit", 2, "--fit is of --maps"),
        ("sample edged --maps small", 2, "the maps in small are 14x14; this model draws from maps of 28x28"),
        ("sample edged --maps coloured", 2, "the maps in coloured are coloured; this model draws from maps of one"),
        ("sample edged --maps photo", 2, "the maps in photo are shades of grey; this model draws from edges"),
        ("sample edged --maps ring", 2, "ring holds points, and this model draws from maps"),
        ("sample edged --maps scenes", 2, "the maps in scenes are coloured"),
    ],
)
def test_wrong_requests(
    arguments: str,
    code: int,
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ask(monkeypatch, folder, *arguments.split()) == code
    said = capsys.readouterr().err.lstrip()  # a bar may have ended its line
    assert message in said
    assert said.startswith("reverie: ")
    assert said.count("\n") <= 2
    assert "Traceback" not in said


def test_maps_that_fit_are_taken_as_they_are_and_others_where_that_is_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each map and the sample beside it, the map comes back to the byte."""
    arguments = ("sample", "edged", "-n", "1", "steps=1", "-o", "out.png", "--maps")
    assert ask(monkeypatch, folder, *arguments, "lines") == 0
    with Image.open(folder / "out.png") as sheet, Image.open(folder / "lines" / "0.png") as lines:
        scale = sheet.height // 28
        assert np.array_equal(np.asarray(sheet.convert("L"))[::scale, : 28 * scale : scale], np.asarray(lines))
    for name in ("small", "coloured", "photo"):
        assert ask(monkeypatch, folder, *arguments, name, "--fit") == 0


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=["torch", "Python"],
)
def test_too_little_memory_is_no_bug(
    error: Exception, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(reverie, "sample", full)
    assert ask(monkeypatch, folder, "sample", "run", "steps=1") == 1
    assert "more memory than there is: ask for less at once" in capsys.readouterr().err
