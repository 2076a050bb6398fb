"""Tools on pictures, on models that draw from maps: the map of each picture reaches the model, or the tool says no."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

import reverie
from reverie.core.batch import Condition
from reverie.core.errors import RequestError
from reverie.core.images import save_grid
from reverie.core.model import Model, ModelConfig
from reverie.core.noise import Noise
from reverie.core.run import Run
from reverie.core.space import Space
from reverie.edit import reading
from reverie.edit.asked import Asked
from reverie.edit.draw import draw, pictured
from reverie.edit.pictures import invert, sdedit
from reverie.edit.task import Task
from reverie.evaluation.measures.straightness import measure
from reverie.maths.paths import Straight
from reverie.maths.posteriors import Dirac

SHAPE = (1, 4, 4)
SMALL = ["model.network.image={name: unet, width: 16, patch: 4}", "train.batch=4"]


class Told(Model):
    """Is sure that a row is its map, which is the picture itself."""

    def __init__(self) -> None:
        super().__init__(ModelConfig(), Space(SHAPE, maps=1), {})
        self.path = Straight()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def observe(self, x: Tensor, noise: Noise) -> Tensor:
        return x

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Dirac:
        assert condition is not None
        assert condition.image is not None, "a map of zeros is not what it was trained on"
        return Dirac(condition.image.to(x_t.dtype))

    def enter(self, x: Tensor) -> Tensor:
        return x

    def leave(self, z: Tensor) -> Tensor:
        return z

    def sample(self, noise: Noise, condition: Condition | None = None, how: object = None) -> Tensor:
        return torch.zeros(len(noise.ids), *SHAPE)


def test_each_result_is_shown_its_own_pictures_map() -> None:
    x = torch.rand(3, *SHAPE)
    task = Task(model=Told(), x=x, maps=x, count=2)
    assert torch.equal(task.condition().image, x.repeat_interleave(2, 0))
    new = sdedit.edited(task, sdedit.Settings(strength=1, steps=3))
    torch.testing.assert_close(new, x.repeat_interleave(2, 0))
    z = invert.inverted(task, task.repeated, invert.Settings(steps=4))
    torch.testing.assert_close(invert.taken_back(task, z, invert.Settings(steps=4)), task.repeated)


def test_maps_are_made_of_pictures_from_files(tmp_path: Path) -> None:
    save_grid(torch.rand(1, *SHAPE), tmp_path / "picture.png", 1, 1)
    asked = Asked(images=(tmp_path / "picture.png",), settings=("steps=3", "strength=1"), count=2)
    run = SimpleNamespace(recipe=SimpleNamespace(data={"background": "white"}))
    sheet = pictured(run, Told(), "sdedit", asked, "cpu", None, lambda note: None)
    assert (sheet.x - sheet.x[:1]).abs().max() < 1e-5
    with pytest.raises(RequestError, match="inpaint has none to show: take invert, sdedit or vary"):
        pictured(run, Told(), "inpaint", Asked(images=asked.images, box="0,0,2,2"), "cpu", None, lambda note: None)


@pytest.mark.parametrize("recipe", ["sr3", "ddpm"])
def test_runs_on_maps_have_them_in_some_tools_and_refuse_the_others(recipe: str, tmp_path: Path) -> None:
    changes = [*SMALL, *(["data.maps=edges"] if recipe == "ddpm" else [])]
    reverie.train(recipe, "digits", out=tmp_path / "run", steps=1, changes=changes)
    out = tmp_path / "out.png"
    for tool in ("sdedit", "invert", "vary"):
        draw(tmp_path / "run", tool, Asked(rows="0,1", settings=("steps=2",)), out=out, device="cpu")
    for tool in ("guide", "control", "upscale", "inpaint", "blend"):
        more = {"inpaint": {"box": "8,8,20,20"}, "blend": {"to": "0"}}.get(tool, {})
        asked = Asked(settings=("steps=2",), **more)
        with pytest.raises(RequestError, match=f"draws from maps, and {tool} has none to show"):
            draw(tmp_path / "run", tool, asked, out=out, device="cpu")
    if recipe == "ddpm":
        with pytest.raises(RequestError, match="files come without: name --rows"):
            draw(tmp_path / "run", "sdedit", Asked(images=(out,)), out=out, device="cpu")
        maps = reading.read_maps(Run.open(tmp_path / "run"), [0, 1])
        assert maps.shape == (2, 1, 28, 28)


def test_a_controlnet_goes_on_without_a_map(tmp_path: Path) -> None:
    reverie.train("ddpm", "digits", out=tmp_path / "base", steps=1, changes=SMALL)
    changes = [f"base=run:{tmp_path / 'base'}", "train.batch=4"]
    reverie.train("controlnet", "digits", out=tmp_path / "run", steps=1, changes=changes)
    for tool in ("guide", "sdedit", "inpaint"):
        rows = None if tool == "guide" else "0"
        asked = Asked(rows=rows, settings=("steps=2",), box="8,8,20,20" if tool == "inpaint" else None)
        draw(tmp_path / "run", tool, asked, out=tmp_path / "out.png", device="cpu")
    model = reverie.load(tmp_path / "run", "cpu")
    how = model.config.sampling.model_copy(update={"size": 48, "steps": 2})
    with pytest.raises(RequestError, match="this model draws from maps, whose size it takes"):
        reverie.sample(model, 1, condition=Condition(image=torch.zeros(1, 1, 28, 28)), how=how)


def test_straightness_is_that_of_flows_from_the_datas_maps() -> None:
    """A model that is sure from the start goes straight; its denoiser fails where it is shown no map."""
    subject = SimpleNamespace(
        model=Told(),
        seed=0,
        say=lambda line: None,
        asks=lambda ids: Condition(image=torch.rand(len(ids), *SHAPE)),
        recipe=lambda *parts: "",
    )
    assert measure(subject)["straightness"].estimate.value == pytest.approx(0, abs=1e-9)
