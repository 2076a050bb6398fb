"""Recipes that learn from a teacher keep every promise of a recipe, whichever denoiser teaches."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest
import test_recipes as contract
import torch

import reverie
from reverie.core.catalog import entries
from reverie.core.errors import RequestError
from reverie.core.player import Progress
from reverie.core.run import Run
from reverie.data.config import DataConfig
from reverie.data.dataset import open_data
from reverie.data.feed import Feed
from reverie.training.config import AverageConfig, TrainConfig
from reverie.training.loop import Loop
from reverie.training.ranks import Ranks

TAUGHT = [entry.name for entry in entries() if entry.needs == ("teacher",)]
TEACHERS = ["ddpm", "flow-matching"]
PAIRS = [(name, teacher) for name in TAUGHT for teacher in TEACHERS]
PROMISES = [
    contract.test_resume_is_bit_exact,
    contract.test_what_is_saved_is_what_is_loaded,
    contract.test_samples_depend_on_their_place_alone,
    contract.test_recipe_tells_the_capabilities_of_its_model,
    contract.test_views_keep_their_promises,
]


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("teachers")
    return {
        f"{name} {source}": reverie.train(name, source, out=folder / f"{name}-{source}", changes=changes, quiet=True)
        for name in TEACHERS
        for source, changes in (("digits", contract.CHANGES), ("ring", contract.SMALL))
    }


@pytest.fixture(scope="module", params=zip(TAUGHT, cycle(TEACHERS)), ids=" from ".join)
def trained(
    request: pytest.FixtureRequest, teachers: dict[str, Run], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Run, Run]:
    """A student trained for four rounds at once, and for three, stopped, and resumed."""
    name, teacher = request.param
    folder = tmp_path_factory.mktemp(name)
    changes = {**contract.CHANGES, "teacher": f"run:{teachers[f'{teacher} digits'].folder}"}

    def past_half(progress: Progress) -> bool:
        return progress.round == 3

    once = reverie.train(name, "digits", out=folder / "once", changes=changes, quiet=True)
    reverie.train(name, "digits", out=folder / "twice", changes=changes, quiet=True, stop=past_half)
    return name, once, reverie.train(name, "digits", out=folder / "twice", changes=changes, quiet=True)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda f: f.__name__.removeprefix("test_"))
def test_a_taught_recipe_keeps_its_promises(
    trained: tuple[str, Run, Run], promise: Callable[[tuple[str, Run, Run]], None]
) -> None:
    promise(trained)


@pytest.mark.parametrize(("name", "teacher"), PAIRS)
def test_students_of_points_move_and_their_teachers_do_not(
    name: str, teacher: str, teachers: dict[str, Run], tmp_path: Path
) -> None:
    changes = {**contract.SMALL, "train.steps": 1, "teacher": f"run:{teachers[f'{teacher} ring'].folder}"}
    run = reverie.train(name, "ring", out=tmp_path / "run", changes=changes, quiet=True)
    dataset = open_data(DataConfig.read(run.recipe.data, "data"))
    model = reverie.create(str(run.recipe_file), dataset.space, parts=str(run.parts))
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    config = TrainConfig(batch=8, steps=4, average=AverageConfig(half_life=0))
    loop = Loop(model, Feed(dataset, 0, {}), config, Ranks(torch.device("cpu")))
    (seat,) = loop.seats
    touched: set[int] = set()
    for _ in range(4):
        loop.play_round()
        touched |= {id(p) for p in seat.weights if p.grad is not None and bool(p.grad.ne(0).any())}
    assert touched == {id(p) for p in seat.weights}
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    assert not [n for n in moved if n.startswith("teacher.")]


def test_without_a_teacher_the_command_says_what_to_give(tmp_path: Path) -> None:
    for name in TAUGHT:
        with pytest.raises(RequestError, match=f"{name} needs teacher=run:PATH"):
            reverie.train(name, "ring", out=tmp_path / name, quiet=True, changes=contract.SMALL)


def test_a_teacher_that_nobody_asked_for_is_not_taken(teachers: dict[str, Run], tmp_path: Path) -> None:
    changes = {**contract.SMALL, "teacher": f"run:{next(iter(teachers.values())).folder}"}
    with pytest.raises(RequestError, match=r"ddpm takes no teacher: leave teacher=run:\S+ out"):
        reverie.train("ddpm", "ring", out=tmp_path, quiet=True, changes=changes)
