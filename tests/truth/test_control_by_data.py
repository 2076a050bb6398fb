"""ControlNet on the data's own maps: they reach the copy, and what it learns from them is of the row they belong to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import reverie
from reverie.core.batch import Batch, Condition
from reverie.core.capabilities import Observes
from reverie.core.model import Model
from reverie.core.noise import KeyedNoise
from reverie.core.player import Progress, Turn
from reverie.core.run import Run
from reverie.data import DataConfig, open_data

CHANGES = {
    "train.batch": 32,
    "train.time": None,
    "train.grids": 0,
    "train.precision": "fp32",
    "train.average.half_life": 200,
    "data.size": 16,
    "data.condition": "none",
    "model.optimizer.warmup": 5,
    "model.optimizer.lr": 0.004,
}
ROWS, STEPS = 64, 200


def trained(recipe: str, folder: Path, steps: int, changes: dict[str, object]) -> Path:
    changes = {**CHANGES, "train.steps": steps, **changes}
    return reverie.train(recipe, "scenes:2000", out=folder, changes=changes, quiet=True).folder


def loss(model: Model, x: Tensor, image: Tensor | None, first: int = 0) -> Tensor:
    """Of a model's one player, on these rows and maps; all else depends on ``first`` alone."""
    (player,) = model.players()
    ids = torch.arange(first, first + len(x))
    turn = Turn(Batch(x, Condition(image=image), ids, ids), KeyedNoise(0, ids, "loss"), Progress())
    return torch.stack(list(player.loss(turn).terms.values())).sum()


@pytest.mark.parametrize(("maps", "channels"), [("layout", 6), ("depth", 1)])
def test_the_copy_learns_from_a_rows_own_map(maps: str, channels: int, tmp_path: Path) -> None:
    """Two steps by the trainer, more by hand on a few rows: then their maps say more of them than each other's do."""
    unet = {"image": {"name": "unet", "width": 16, "patch": 2}}
    base = trained("flow-matching", tmp_path / "base", 60, {"model.network": unet})
    changes = {"base": f"run:{base}", "model.control": "data", "data.maps": maps}
    run = trained("controlnet", tmp_path / "run", 2, changes)
    model = reverie.load(run)
    assert model.space.maps == channels
    assert model.view(Observes) is None, "its maps come with the rows"
    dataset = open_data(DataConfig.read(Run.open(run).recipe.data, "data"))
    x, condition = dataset.train.take(np.arange(ROWS))
    image = condition.image
    assert image is not None
    assert image.shape == (ROWS, channels, 16, 16)
    seen: list[Tensor] = []
    hook = model.control.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[2].image))
    plain = loss(model, x, None)
    assert not seen, "without a map it is the base"
    assert plain.item() == pytest.approx(loss(reverie.load(base), x, None).item())
    loss(model, x, image)
    assert len(seen) == 1
    assert seen[0] is image, "the very map of the row, whatever the base's loss makes of its condition"
    hook.remove()
    weights = [p.requires_grad_(True) for p in model.control.parameters()]
    optimizer = torch.optim.Adam(weights, lr=0.004)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss(model, x, image, first=ROWS * (step + 1)).backward()
        optimizer.step()
    with torch.no_grad():
        own, others, none = (loss(model, x, given).item() for given in (image, image.roll(1, 0), None))
    assert own < 0.97 * others
    assert own < 0.97 * none
    assert none == pytest.approx(plain.item())
