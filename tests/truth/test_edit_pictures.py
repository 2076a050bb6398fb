"""Tools on pictures, on a denoiser that is known, on two kinds of trained runs, and through the command line."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import reverie
from reverie.core import capabilities as denoising
from reverie.core.batch import Condition
from reverie.core.errors import RequestError, ReverieError
from reverie.core.images import to_bytes
from reverie.core.model import Model, ModelConfig
from reverie.core.noise import Noise
from reverie.core.space import Space
from reverie.edit import reading
from reverie.edit.asked import Asked
from reverie.edit.draw import draw
from reverie.edit.pictures import blend, inpaint, invert, restore, sdedit, upscale, vary
from reverie.edit.task import Task, tools
from reverie.maths.operators import Downsample
from reverie.maths.paths import LinearBetas, Straight, VarianceExploding, prior_scale
from reverie.maths.posteriors import Dirac, GaussianData
from reverie.samplers.solver import find_solver, solvers

SHAPE = (1, 4, 4)


class Known(Model):
    """The exact denoiser of Gaussian pictures whose pixels lean on each other."""

    def __init__(self, path: denoising.Path) -> None:
        super().__init__(ModelConfig(), Space(SHAPE), {})
        places = torch.tensor([[i, j] for i in range(4) for j in range(4)], dtype=torch.float64)
        self.covariance = 0.3 * torch.exp(-0.3 * torch.cdist(places, places) ** 2) + 0.01 * torch.eye(16).double()
        self.exact = GaussianData(path, torch.zeros(16).double(), self.covariance)
        self.path = path

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Dirac:
        return Dirac(self.exact.denoise(x_t.flatten(1), t).mean.view_as(x_t))

    def enter(self, x: Tensor) -> Tensor:
        return x

    def leave(self, z: Tensor) -> Tensor:
        return z

    def sample(self, noise: Noise, condition: Condition | None = None, how: object = None) -> Tensor:
        return torch.zeros(len(noise.ids), *SHAPE)


PATHS: dict[str, denoising.Path] = {"ddpm": LinearBetas(), "straight": Straight(), "exploding": VarianceExploding()}


@pytest.fixture(params=list(PATHS.values()), ids=list(PATHS))
def model(request: pytest.FixtureRequest) -> Known:
    return Known(request.param)


def pictures(model: Known, count: int = 3) -> Tensor:
    root = torch.linalg.cholesky(model.covariance)
    z = torch.randn(count, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return (z @ root.T).view(count, *SHAPE)


def test_sdedit_goes_from_the_picture_to_a_new_sample(model: Known) -> None:
    task = Task(model=model, x=pictures(model).repeat(200, 1, 1, 1))
    assert torch.equal(sdedit.edited(task, sdedit.Settings(strength=0)), task.x), "strength 0 is the picture"
    new = sdedit.edited(task, sdedit.Settings(strength=1, steps=150, eta=0)).flatten(1)
    assert torch.allclose(torch.cov(new.T), model.covariance, atol=0.06), "strength 1 is a sample of the model"
    kept = [
        float((sdedit.edited(task, sdedit.Settings(strength=s, steps=30)) - task.x).square().mean())
        for s in (0.1, 0.3, 0.6)
    ]
    assert kept == sorted(kept)
    assert task.times(sdedit.Settings(steps=4), 0.4) == [0.4, 0.25, 0.0]


def test_a_path_of_so_many_steps_is_walked_on_those() -> None:
    task = Task(model=Known(LinearBetas(10)), x=torch.zeros(1, *SHAPE).double())
    assert task.times(invert.Settings(steps=4)) == [1.0, 0.8, 0.5, 0.2, 0.0]
    for kind in ("log-snr", "karras"):
        assert min(task.times(invert.Settings(steps=10, grid=kind))[:-1]) >= 0.1 - 1e-12
    for settings in (invert.Settings(steps=11), invert.Settings(steps=11, grid="karras")):
        with pytest.raises(RequestError, match="steps = 11 is more than this model's T = 10"):
            vary.draw(task, vary.Settings(**settings.model_dump()))
    assert len(Task(model=Known(Straight()), x=task.x).times(invert.Settings(steps=5000))) == 5001


def test_inversion_comes_back_with_more_steps(model: Known) -> None:
    task = Task(model=model, x=pictures(model))

    def off(steps: int, solver: str = "ddim") -> float:
        settings = invert.Settings(steps=steps, solver=find_solver(solver))
        again = invert.taken_back(task, invert.inverted(task, task.x, settings), settings)
        return float((again - task.x).square().mean().sqrt())

    assert off(400) < 0.6 * off(200) < 0.4 * off(100), "order 1"
    assert off(100, "heun") < 0.3 * off(100)


BOTH_WAYS = ["ddim", "dormand-prince", "euler", "heun"]


@pytest.mark.parametrize("solver", BOTH_WAYS)
def test_solvers_that_run_both_ways_come_back_through_noise_of_the_models_size(model: Known, solver: str) -> None:
    task = Task(model=model, x=pictures(model, 40))
    settings = vary.Settings(solver=solver, steps=1 if solver == "dormand-prince" else 60)
    z = invert.inverted(task, task.x, settings)
    assert float(z.std()) / prior_scale(model.path) == pytest.approx(1, abs=0.1)
    assert float((invert.taken_back(task, z, settings) - task.x).square().mean().sqrt()) < 0.05


@pytest.mark.parametrize("solver", [*sorted(set(solvers()) - set(BOTH_WAYS)), {"name": "ddim", "eta": 0.5}], ids=str)
def test_solvers_that_go_towards_data_only_are_no_way_to_noise(solver: str | dict[str, object]) -> None:
    name = solver if isinstance(solver, str) else "name: ddim, eta: 0.5"
    for tool in (invert, vary, blend):
        with pytest.raises(RequestError, match=f"solver = .*{name}.* goes towards data only: take one that"):
            tool.Settings(solver=solver)


def test_the_noise_of_a_picture_is_white(model: Known) -> None:
    task = Task(model=model, x=pictures(model, 600))
    z = invert.inverted(task, task.x, invert.Settings(steps=100)).flatten(1)
    z = z / prior_scale(model.path)
    assert torch.allclose(torch.cov(z.T), torch.eye(16).double(), atol=0.25)


def test_variations_and_blends_end_where_they_should(model: Known) -> None:
    x = pictures(model)
    sheet = vary.draw(Task(model=model, x=x / 4, count=2), vary.Settings(strength=0, steps=200))
    rows = sheet.x.view(3, 3, *SHAPE)
    assert torch.allclose(rows[:, 1:], rows[:, :1].expand(3, 2, *SHAPE), atol=0.02)
    sheet = blend.draw(Task(model=model, x=x / 4, others=x.flip(0) / 4), blend.Settings(steps=200, stops=3))
    rows = sheet.x.view(3, 5, *SHAPE)
    assert torch.allclose(rows[:, 0], rows[:, 1], atol=0.02)
    assert torch.allclose(rows[:, 4], rows[:, 3], atol=0.02)
    with pytest.raises(RequestError, match="needs --to"):
        blend.draw(Task(model=model, x=x), blend.Settings())


@pytest.mark.parametrize("method", ["repaint", "moments", "dps"])
def test_inpainting_keeps_what_is_known(model: Known, method: str) -> None:
    known = reading.outside("1,1,3,3", model.space)
    task = Task(model=model, x=pictures(model) / 4, known=known, count=2)
    settings = inpaint.Settings(steps=10, method=method)
    rows = inpaint.draw(task, settings).x.view(3, 4, *SHAPE)
    assert torch.equal(rows[:, 1:3, :, known], (task.x[:, None, :, known]).expand(3, 2, 1, -1))
    assert torch.equal(rows[:, 3], task.x)
    assert not torch.equal(rows[:, 1, :, ~known], rows[:, 2, :, ~known]), "two results differ"


def test_an_option_of_another_method_is_not_passed_over() -> None:
    for given, of in ({"method": "moments", "jump": 3}, "repaint"), ({"noise": 0.1}, "moments"), ({"scale": 2}, "dps"):
        with pytest.raises(RequestError, match=f"is of method={of}, and this is {given.get('method', 'repaint')}"):
            inpaint.Settings.read(given, "")
    assert upscale.Settings.read({"method": "dps", "scale": 2}, "").scale == 2


def test_upscaling_has_the_exact_posterior(model: Known) -> None:
    x = pictures(model, 1).repeat(500, 1, 1, 1) / 4
    rows = upscale.draw(Task(model=model, x=x), upscale.Settings(factor=2, steps=40, eta=0)).x.view(500, 3, 16)
    blocks = torch.zeros(4, 16).double()
    for place in range(16):
        blocks[(place // 8) * 2 + (place % 4) // 2, place] = 0.25
    gain = model.covariance @ blocks.T @ torch.linalg.inv(blocks @ model.covariance @ blocks.T)
    mean = gain @ blocks @ x[0].flatten()
    assert torch.allclose(rows[:, 1].mean(0), mean, atol=0.06)
    spread = model.covariance - gain @ blocks @ model.covariance
    assert torch.allclose(torch.cov(rows[:, 1].T), spread, atol=0.04)


@pytest.fixture(scope="module", params=["ddpm", "rectified-flow"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "run"
    small = ["model.network.image={name: unet, width: 16, patch: 4}", "train.batch=8"]
    reverie.train(request.param, "digits", out=folder, steps=2, changes=small)
    return folder


def test_every_tool_draws_on_any_model_that_denoises(run: Path, tmp_path: Path) -> None:
    few = ("steps=3",)
    photo, look = tmp_path / "photo.png", tmp_path / "look.png"
    Image.fromarray(np.arange(40 * 30, dtype=np.uint8).reshape(40, 30)).save(photo)
    Image.new("RGB", (28, 28), "white").save(look)
    operator = tmp_path / "shift.py"
    operator.write_text("def shifted(x):\n    return x[..., 1:]\n")
    asked = {
        "inpaint": Asked(box="8,8,20,20", count=2, settings=few),
        "invert": Asked(images=(photo,), settings=few),
        "restore": Asked(operator=f"{operator}:shifted", settings=few, count=1),
        "blend": Asked(rows="0,1", to=f"2,{3}", settings=few),
        "ctrl-x": Asked(rows="0,1", to=str(look), count=1, label=3, settings=(*few, "guidance=2")),
        "control": Asked(
            rows="0", count=1, label=3, settings=(*few, "guidance=2", "structure=0.01", "appearance=0.01", "axes=2")
        ),
        "guide": Asked(count=3, settings=few),
    }
    said: list[str] = []
    for tool in sorted(set(tools()) - {"colourise"}):
        given = Asked(images=(photo,), count=1, settings=few)
        file = draw(run, tool, asked.get(tool, given), out=tmp_path / f"{tool}.png", device="cpu", say=said.append)
        with Image.open(file) as drawn:
            assert drawn.width > 56, tool
    assert "photo.png: 30x40, its middle square resized to 28x28" in said
    with pytest.raises(RequestError, match="grey already"):
        draw(run, "colourise", Asked(settings=few))


def test_small_pictures_and_masks_from_files(tmp_path: Path) -> None:
    small = np.arange(16, dtype=np.uint8).reshape(4, 4) * 16
    Image.fromarray(small).save(tmp_path / "small.png")
    x, notes = reading.read_pictures([tmp_path / "small.png"], Space((1, 8, 8)))
    assert torch.equal(to_bytes(Downsample(2)(x))[0, 0], torch.from_numpy(small)), "its pixels are not touched"
    assert len(notes) == 1
    first = "as large as what comes of it: it is made 2x2 first"
    for size, told in (
        ((2, 2), ["2x2, each of its pixels a square of 4x4"]),
        ((8, 8), [f"8x8, {first}"]),
        ((9, 20), [f"9x20, its middle square resized to 8x8, {first}"]),
        ((3, 3), [f"3x3, its middle square resized to 8x8, {first}"]),
        ((2, 5), ["2x5, its middle square resized to 8x8"]),
    ):
        Image.new("L", size).save(tmp_path / "any.png")
        said = reading.read_pictures([tmp_path / "any.png"], Space((1, 8, 8)), factor=4)[1]
        assert said == [f"any.png: {line}" for line in told]
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(tmp_path / "mask.png")
    assert torch.equal(reading.read_mask(tmp_path / "mask.png", Space((1, 8, 8))), ~torch.eye(8, dtype=torch.bool))


@pytest.mark.parametrize("name", ["vector.eps", "vector.png", "huge.png", "empty.png", "cut.png"])
def test_files_that_training_would_not_read_are_not_read_here(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An EPS starts Ghostscript, under any name; 10,000 x 10,000 pixels of one bit take 12 kB in a file."""
    file = tmp_path / name
    if name == "huge.png":
        Image.new("1", (10_000, 10_000)).save(file)
    elif name == "empty.png":
        file.touch()
    else:
        Image.effect_noise((64, 64), 50).save(file, "PNG" if name == "cut.png" else "EPS")
        file.write_bytes(file.read_bytes()[: 2000 if name == "cut.png" else None])

    def start(*arguments: object) -> None:
        raise AssertionError("another program was to be started")

    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", start)
    said = {"huge.png": "10000 x 10000, more than 67,108,864 pixels", "empty.png": "empty file", "cut.png": "truncated"}
    for read in (
        lambda: reading.read_pictures([file], Space((1, 8, 8))),
        lambda: reading.read_mask(file, Space(SHAPE)),
    ):
        with pytest.raises(RequestError, match=f"cannot read {file}: .*{said.get(name, 'not an image')}"):
            read()


def test_pictures_of_ones_own_are_read_as_those_of_training(tmp_path: Path) -> None:
    """Of 16 bits the greatest value is white, transparency of a mask is black, and EXIF's turns are made."""
    space = Space((1, 4, 4))
    ramp = np.linspace(0, 65535, 16).reshape(4, 4).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    (x,), _ = reading.read_pictures([tmp_path / "deep.png"], space)
    assert torch.allclose(x.flatten(), torch.linspace(-1, 1, 16), atol=0.01)
    assert torch.equal(reading.read_mask(tmp_path / "deep.png", space).flatten(), torch.arange(16) < 8)
    mask = np.full((4, 4, 4), 255, dtype=np.uint8)
    mask[2:, :, 3] = 0
    Image.fromarray(mask, "RGBA").save(tmp_path / "mask.png")
    assert reading.read_mask(tmp_path / "mask.png", space).any(1).tolist() == [False, False, True, True]
    (x,), _ = reading.read_pictures([tmp_path / "mask.png"], space, "black")
    assert x[0].mean(1).tolist() == [1, 1, -1, -1], "under what is transparent lies the colour of the training"
    lying = Image.fromarray(np.repeat([[0, 0, 255, 255]], 4, axis=0).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    lying.save(tmp_path / "lying.png", exif=exif)
    (x,), _ = reading.read_pictures([tmp_path / "lying.png"], space)
    assert (x[0] > 0).all(1).tolist() == [False, False, True, True]


def test_a_file_is_what_the_operator_left() -> None:
    """Of A x = x / 2 a file y comes from 2 y; of a row, which is halved first, the row itself comes back."""
    model = Known(Straight())
    x = pictures(model, 1) / 4
    half = Task(model=model, x=x, given=True, operator=lambda x: x / 2)
    seen, result = restore.draw(half, restore.Settings()).x
    assert torch.allclose(result, 2 * x[0], atol=0.03)
    assert torch.allclose(seen, 2 * x[0], atol=1e-5), "the one picture that looks like it"
    _, result, row = restore.draw(replace(half, given=False), restore.Settings()).x
    assert torch.allclose(result, x[0], atol=0.03)
    assert torch.equal(row, x[0])


@pytest.mark.parametrize("run", ["rectified-flow"], indirect=True)
def test_what_is_asked_wrongly_is_told(run: Path, tmp_path: Path) -> None:
    small, whole = tmp_path / "small.png", tmp_path / "whole.png"
    Image.new("L", (14, 14)).save(small)
    Image.new("L", (28, 28)).save(whole)
    crooked = tmp_path / "crooked.py"
    crooked.write_text(
        "def squared(x):\n    return x * x\ndef number(x):\n    return 3\ndef failing(x):\n    return {}['x']\n"
    )
    Image.new("L", (7, 7)).save(tmp_path / "tiny.png")
    (tmp_path / "text.png").write_text("no picture")
    for message, tool, asked in [
        ("14x14; a mask has the size", "inpaint", Asked(mask=small)),
        ("knows every pixel", "inpaint", Asked(mask=whole)),
        ("knows no pixel", "inpaint", Asked(box="0,0,28,28")),
        ("needs --mask", "inpaint", Asked()),
        ("not both", "inpaint", Asked(mask=whole, box="0,0,2,2")),
        ("not linear", "restore", Asked(operator=f"{crooked}:squared")),
        ("the operator returns int, not a tensor", "restore", Asked(operator=f"{crooked}:number")),
        ("the operator fails: KeyError: 'x'", "restore", Asked(operator=f"{crooked}:failing")),
        (
            "2 times 7x7 is not the model's 28x28; take factor=4",
            "upscale",
            Asked(images=(tmp_path / "tiny.png",), settings=("factor=2",)),
        ),
        ("no file 'nothing.py'", "restore", Asked(operator="nothing.py:x")),
        ("write FILE.py:NAME", "restore", Asked(operator="nothing:x")),
        ("divides 28", "upscale", Asked(settings=("factor=5",))),
        ("steps = 0: .*greater than or equal to 1", "vary", Asked(settings=("steps=0",))),
        ("unknown key 'stength'; did you mean 'strength'", "sdedit", Asked(settings=("stength=0.5",))),
        ("not an image", "sdedit", Asked(images=(tmp_path / "text.png",))),
        ("no row 99999", "sdedit", Asked(rows="99999")),
        ("no class 10; this model has 10", "sdedit", Asked(label=10)),
        ("needs --other", "guide", Asked(settings=("method=autoguidance",))),
        ("data with classes", "guide", Asked(settings=("method=classifier",))),
        ("takes options only", "picks", Asked(settings=("steps=3",))),
        ("did you mean 'inpaint'", "inpint", Asked()),
        ("upscale does not use --box, which is for filters, inpaint: leave it out", "upscale", Asked(box="0,0,2,2")),
        ("vary does not use --steps: write steps=20", "vary", Asked(steps=20)),
        ("walk does not use --label", "walk", Asked(label=3)),
        ("picks does not use --from", "picks", Asked(start="3")),
        ("blend does not use --count", "blend", Asked(count=2, to="1")),
        ("guide does not use --rows", "guide", Asked(rows="0")),
        ("method=classifier-free does not use --other: leave it out", "guide", Asked(other=run, settings=("steps=2",))),
        ("guidance=5 is towards a class: name it, as in --label 0", "sdedit", Asked(settings=("guidance=5",))),
        ("vary goes to noise and back without guidance", "vary", Asked(label=3, settings=("guidance=5",))),
    ]:
        with pytest.raises(RequestError, match=message):
            draw(run, tool, asked, device="cpu")
    with pytest.raises(ReverieError, match=r"guidance = 1e\+0?9 blows up at step \d of 5"):
        draw(run, "guide", Asked(settings=("steps=5", "guidance=1e9")), device="cpu")


def test_models_that_do_not_denoise_are_told_so(tmp_path: Path) -> None:
    reverie.train("gan", "digits", out=tmp_path / "run", steps=1, changes=["train.batch=4"])
    with pytest.raises(RequestError, match="does not denoise"):
        draw(tmp_path / "run", "inpaint", Asked(box="8,8,20,20"), device="cpu")


@pytest.mark.parametrize("run", ["ddpm"], indirect=True)
def test_through_the_command_line(run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "reverie", "edit", str(run)]
    out = tmp_path / "strip.png"
    drawn = [
        *command,
        "sdedit",
        "steps=3",
        "strength=0.9",
        "--rows",
        "0,5",
        "-n",
        "2",
        "--device",
        "cpu",
        "-o",
        str(out),
    ]
    done = subprocess.run(drawn, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(out), done.stderr
    with Image.open(out) as strip:
        assert strip.size == (3 * (3 * 30 - 2), 3 * (2 * 30 - 2))
    wrong = subprocess.run([*command, "sdedit", "strength=2"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("reverie: strength = 2: ")


def test_the_help_teaches_every_tool() -> None:
    from reverie.cli.edit import edit

    assert edit.__doc__ is not None
    for tool in tools():
        assert tool in edit.__doc__, tool
