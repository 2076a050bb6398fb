"""The command line: errors in one or two lines with their exit codes, and the verbs from end to end."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reverie.cli.main import run
from reverie.core.export import save_samples
from reverie.core.sampling import Samples

SMALL = ["train.batch=8", "train.grids=1", "data.size=16", "--steps", "3", "-q"]


def reverie(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["reverie", *arguments])
    with pytest.raises(SystemExit) as stopped:
        run()
    return int(stopped.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models", "dcgn"], "did you mean 'dcgan'?"),
        (["train", "dcgn"], "did you mean 'dcgan'?"),
        (["train", "dcgan", "train.bach=3"], "unknown key 'train.bach'; did you mean 'batch'?"),
        (["train", "dcgan", "model.generator.widht=3"], "unknown key 'model.generator.widht'; did you mean 'width'?"),
        (["train", "dcgan", "modle.latent=3"], "unknown key 'modle.latent'; did you mean 'model'?"),
        (["train", "dcgan", "batch=3"], "unknown key 'batch'; did you mean 'train.batch'?"),
        (["train", "dcgan", "train.batch"], "write key.path=value"),
        (["train", "dcgan", "model.penalties={r1:"], "quotes: 'model.penalties={a: 1}'"),
        (["train", "dcgan", "model.latent=[[[[[[[[1]]]]]]]]"], "model.latent = [[[...]]]: "),
        (["train", "dcgan", "train.batch=0"], "train.batch = 0"),
        (["train", "dcgan", "train.batch=true"], "train.batch = True: write a number, not true"),
        (["train", "dcgan", "model.history=yes"], "model.history = True: write a number, not true"),
        (["train", "dcgan", "model.generator_terms={adversarial: 0}"], "at a weight above 0"),
        (["train", "dcgan", "model.generator_terms={adversarial: true}"], "adversarial: write a number, not true"),
        (["train", "dcgan", "--steps", "0"], "train.steps = 0"),
        (["train", "dcgan", "--time", "10q"], "is not a duration"),
        (["train", "dcgan", "--time", "1m", "--steps", "3"], "give one budget, not time and steps"),
        (["train", "dcgan", "--data", "nowhere"], "no data 'nowhere'"),
        (["train", "dcgan", "--device", "tpu"], "no device 'tpu' here"),
        (["train", "dcgan", "model.generator=unet"], "no generator network 'unet'"),
        (["train", "dcgan", "model.objective=hinges"], "did you mean 'hinge'?"),
        (["train", "vae", "model.sampling.temperature=.inf"], "should be a finite number"),
        (["train", "dcgan", "start=run:nowhere"], "no run at nowhere"),
        (["train", "dcgan", "model.latent=0"], "model.latent = 0"),
        (["train", "dcgan", "train.batch=1"], "batch norm compares the rows of a step"),
        (["train", "missing.yaml"], "cannot read missing.yaml"),
        (["sample", "nowhere"], "no run at nowhere"),
        (["evaluate", "nowhere"], "no run at nowhere"),
        (["evaluate", "nowhere", "--debug"], "no run at nowhere"),
        (["data", ""], "the source of data is empty; name a folder"),
        (["cite", "nowhere"], "no recipe 'nowhere'"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_wrong_requests(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert reverie(monkeypatch, *arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") <= 2 or "--debug" in arguments
    assert ("Traceback" in said) == ("--debug" in arguments)


def test_gans_on_data_that_do_not_suit_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    """One class for a conditional GAN; ten images; grey ones for a colour recipe; a label outside the classes."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for folder, count, shape in (("one/cat", 12, (16, 16, 3)), ("two/a", 6, (16, 16)), ("two/b", 6, (16, 16))):
        Path(folder).mkdir(parents=True)
        for k in range(count):
            Image.fromarray(draw.integers(0, 256, shape, dtype=np.uint8)).save(f"{folder}/{k}.png")
    for recipe in ("cgan", "acgan"):
        assert reverie(monkeypatch, "train", recipe, "--data", "one", "--out", recipe, *SMALL) == 2
        assert "one has no labels: a subfolder a class gives them, two or more" in capsys.readouterr().err
    small = ["model.generator.width=4", "model.discriminator.width=4", "data.channels=3"]
    options = [option for option in SMALL if option != "-q"]
    assert reverie(monkeypatch, "train", "cgan", "--data", "two", "--out", "run", *options, *small) == 0
    assert "rows are few" in capsys.readouterr().err
    assert reverie(monkeypatch, "sample", "run", "-n", "2", "-o", "x.png") == 0
    assert Image.open("x.png").mode == "RGB"
    capsys.readouterr()
    assert reverie(monkeypatch, "sample", "run", "-n", "2", "--label", "2", "-o", "x.png") == 2
    assert "this model's labels are 0 to 1" in capsys.readouterr().err


@pytest.mark.parametrize(("count", "side", "scale"), [(1, 8, 9), (4, 28, 3), (1, 64, 2), (1, 65, 1), (2500, 32, 2)])
def test_small_images_are_shown_larger_on_a_grid(count: int, side: int, scale: int, tmp_path: Path) -> None:
    save_samples(Samples(torch.zeros(count, 1, side, side), None), tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as grid:
        rows = round(count**0.5)
        assert grid.size == (scale * (rows * (side + 2) - 2),) * 2
    save_samples(Samples(torch.zeros(1, 1, side, side), None), tmp_path / "x")
    with Image.open(tmp_path / "x" / "000000.png") as single:
        assert single.size == (side, side)


def test_a_recipe_cannot_name_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    recipe = tmp_path / "evil.yaml"
    for text in ("model: {name: os}", "model: {name: ../../evil}", "model: !!python/object/apply:os.getcwd []"):
        recipe.write_text(text)
        assert reverie(monkeypatch, "train", str(recipe)) == 2
        assert "Traceback" not in capsys.readouterr().err


def test_from_a_folder_to_a_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    shades = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
    for i, pixels in enumerate(shades):
        folder = tmp_path / "photos" / ("cats" if i % 2 else "dogs")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    assert reverie(monkeypatch, "train", "dcgan", "--data", "photos", *SMALL, "--out", "run") == 0
    assert reverie(monkeypatch, "train", "dcgan", "--data", "photos", *SMALL, "--out", "run") == 0, "nothing left to do"
    assert reverie(monkeypatch, "train", "dcgan", "--data", "digits", *SMALL, "--out", "run") == 2, "other data"
    extra = Path("photos/cats/later.png")
    Image.fromarray(255 - shades[0]).save(extra)
    assert reverie(monkeypatch, "train", "dcgan", "--data", "photos", *SMALL, "--out", "run") == 2
    assert "was trained on other data (photos" in capsys.readouterr().err
    extra.unlink()
    assert reverie(monkeypatch, "train", "run/recipe.yaml", "--out", "again", "-q") == 0, "a run's recipe repeats it"
    assert Path("run/model.safetensors").stat().st_size == Path("again/model.safetensors").stat().st_size
    for out in ("grid.png", "arrays.npz", "folder"):
        assert reverie(monkeypatch, "sample", "run", "-n", "5", "--label", "1", "-o", out) == 0
    arrays = np.load("arrays.npz")
    assert arrays["images"].shape == (5, 16, 16, 3)
    assert arrays["images"].dtype == np.uint8
    assert list(arrays["labels"]) == [1] * 5
    with Image.open("grid.png") as grid:
        assert grid.size == (5 * (3 * 18 - 2), 5 * (2 * 18 - 2)), "a pixel is shown 5 wide, as in training"
        assert np.array_equal(np.asarray(grid)[2::5, 2::5][18:, 18:34], arrays["images"][4])
    files = sorted(Path("folder").iterdir())
    assert np.array_equal(np.asarray(Image.open(files[3])), arrays["images"][3])
    assert reverie(monkeypatch, "sample", "run", "-n", "2", "-o", "folder") == 2, "it holds a larger request's files"
    assert sorted(Path("folder").iterdir()) == files
    assert reverie(monkeypatch, "sample", "run", "--label", "2") == 2
    assert reverie(monkeypatch, "sample", "run", "-o", "x.jpg") == 2
    assert reverie(monkeypatch, "sample", "run", "stepps=3") == 2
    assert reverie(monkeypatch, "evaluate", "run", "-n", "16") == 0
    assert json.loads(Path("run/report/report.json").read_text())["samples"] == 16
    page = Path("run/report/report.html").read_text()
    assert "data:image/png;base64" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    capsys.readouterr()
    assert reverie(monkeypatch, "cite", "run") == 0
    assert "author = {Radford and Metz and Chintala}" in capsys.readouterr().out
