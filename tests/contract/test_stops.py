"""Nothing is lost on Ctrl-C, SIGTERM, kill -9, a full disk or a number that is not finite."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

import reverie
from reverie.core import device
from reverie.core.errors import RequestError, ReverieError
from reverie.core.files import write_atomically
from reverie.core.images import save_grid, save_png
from reverie.core.player import OptimizerConfig, Progress
from reverie.core.run import Run
from reverie.core.sampling import Samples
from reverie.core.space import Space
from reverie.data.config import DataConfig
from reverie.data.dataset import open_data
from reverie.edit.walk import save_animation
from reverie.report.curves import read_curves
from reverie.training import checkpoint, loop, train
from reverie.training.build import parts_of_other_data
from reverie.training.doctor.history import read_history
from reverie.training.grids import save_density
from reverie.training.optimizers import optimizer, state_names

CHANGES = {
    "train.batch": 8,
    "train.steps": 30,
    "train.time": None,
    "train.images": None,
    "train.grids": 0,
    "train.precision": "fp32",  # auto is measured by each process, and a busy moment may turn it
    "train.log_every": 1,
    "train.checkpoint_every": 0.15,
    "data.size": 16,
}


def newest(run: Run) -> dict[str, torch.Tensor]:
    folder = sorted(run.checkpoints.glob("[0-9]*"))[-1]
    weights = {f"{f.stem}/{k}": v for f in folder.glob("*.safetensors") for k, v in load_file(f).items()}
    return {**weights, "round": torch.tensor(int(folder.name))}


def sit(name: str, out: Path, death: str) -> None:
    """A sitting in a process of its own; each round is slow enough to be hit."""
    torch.set_num_threads(1)
    if death == "while writing":
        write = checkpoint.save_tensors
        written = 0

        def die(*args: object) -> None:
            nonlocal written
            written += 1
            if written == 5:  # the second checkpoint of this sitting, its first file written and its second not
                os.kill(os.getpid(), signal.SIGKILL)
            write(*args)  # type: ignore[arg-type]

        checkpoint.save_tensors = die  # type: ignore[assignment]
    try:
        reverie.train(name, "digits", out=out, changes=CHANGES, quiet=True, stop=lambda _: time.sleep(0.03) or False)
    except ReverieError as error:
        sys.exit(error.exit_code)


def last_round(out: Path) -> int:
    rounds = [event["round"] for event in Run(out).journal() if event["event"] == "log"]
    return rounds[-1] if rounds else 0


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("name", ["flow-matching", "r3gan"])
def test_killed_and_resumed_ends_in_the_same_weights(name: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "reverie.training.train"])
    reference = context.Process(target=sit, args=(name, tmp_path / "once", ""))
    reference.start()
    out = tmp_path / "killed"
    ways = [("Ctrl-C", signal.SIGINT, 130), ("terminate", signal.SIGTERM, 130), ("kill", signal.SIGKILL, -9)]
    for way, number, code in ways:
        before = last_round(out)
        process = context.Process(target=sit, args=(name, out, way))
        process.start()
        deadline = time.monotonic() + 60
        while last_round(out) < before + 6 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert process.pid is not None
        os.kill(process.pid, number)
        process.join()
        assert process.exitcode == code, way
        assert before < last_round(out) < 30, "it was to be hit in the middle"
    for death, code in [("while writing", -9), ("", 0)]:
        process = context.Process(target=sit, args=(name, out, death))
        process.start()
        process.join()
        assert process.exitcode == code
        if death:
            assert list((out / "checkpoints").glob(".*.tmp")), "it died while a checkpoint was being written"
    reference.join()
    once, killed = newest(Run(tmp_path / "once")), newest(Run(out))
    assert int(once["round"]) == 30
    assert once.keys() == killed.keys()
    for key, value in once.items():
        assert torch.equal(value, killed[key]), key
    assert not list(out.glob("**/.*.tmp")), "what a killed process left is cleared"
    rounds = [event["round"] for event in Run(out).journal() if event["event"] == "log"]
    assert rounds == list(range(1, 31)), "the journal has each round once"


def small(out: Path, **changes: object) -> Run:
    changed = {**CHANGES, "train.steps": 3, "train.checkpoint_every": 1e9, **changes}
    return reverie.train("dcgan", "digits", out=out, changes=changed, quiet=True)


def test_full_disk_keeps_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small(tmp_path / "run")
    good, model = newest(run), run.model_file.read_bytes()

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(ReverieError, match=r"the disk is full; the last complete checkpoint is kept"):
        small(tmp_path / "run", **{"train.steps": 5})
    assert all(torch.equal(good[key], value) for key, value in newest(run).items())
    assert run.model_file.read_bytes() == model
    monkeypatch.undo()
    assert int(newest(small(tmp_path / "run", **{"train.steps": 5}))["round"]) == 5


class Later:
    """A process that is not the first one, which has refused."""

    first, world = False, 2

    def any(self, flag: bool) -> bool:
        return True


def test_where_the_first_process_refuses_all_do(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    with (
        pytest.raises(RequestError, match="the first process refuses, and says why"),
        train._begun(run, run.recipe, Space((1, 16, 16)), Later()),
    ):
        pytest.fail("it goes on alone")


def test_a_memory_of_several_processes_needs_as_many(tmp_path: Path) -> None:
    changes = {**CHANGES, "train.steps": 2}
    run = reverie.train("dragan", "digits", out=tmp_path / "run", changes=changes, quiet=True)
    (folder,) = checkpoint.finished(run)
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**state, "world": 2}))
    (folder / "memory-0.safetensors").unlink()
    with pytest.raises(ReverieError, match="a memory for each of 2 processes; resume it with as many"):
        reverie.train("dragan", "digits", out=run.folder, changes={**changes, "train.steps": 3}, quiet=True)


def test_a_damaged_model_is_written_again_from_the_checkpoint(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    whole = run.model_file.read_bytes()
    run.model_file.write_bytes(whole[:3000])
    with pytest.raises(ReverieError, match="the training's own command writes it again"):
        reverie.load(run)
    small(run.folder)
    assert run.model_file.read_bytes() == whole


def test_the_precision_is_that_in_which_a_run_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What ``auto`` finds faster may differ from sitting to sitting, on another machine or in a busy moment."""
    auto = {"train.precision": "auto"}
    monkeypatch.setattr(device, "has_fast_bf16", lambda _: True)
    once = small(tmp_path / "once", **auto)
    small(tmp_path / "twice", **auto, **{"train.steps": 2})
    monkeypatch.setattr(device, "has_fast_bf16", lambda _: False)
    changes = {**CHANGES, "train.steps": 3, **auto}
    twice = reverie.train("dcgan", "digits", out=tmp_path / "twice", changes=changes)
    assert "it goes on in bf16, in which it began; fp32 was found to be faster now" in capsys.readouterr().err
    other = small(tmp_path / "other", **auto)
    weights = [load_file(run.model_file) for run in (once, twice, other)]
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
    assert not all(torch.equal(value, weights[2][key]) for key, value in weights[0].items())


@contextmanager
def full_from(size: int) -> Iterator[None]:
    """No file that this process writes grows beyond so many bytes: what a disk does that is nearly full."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


NOISE = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("picture.png", lambda file: save_png(Image.effect_noise((32, 32), 50), file)),
        ("grid.png", lambda file: save_grid(NOISE, file)),
        ("samples.png", lambda file: reverie.save_samples(Samples(NOISE, None), file)),
        ("samples.npz", lambda file: reverie.save_samples(Samples(NOISE, None), file)),
        ("walk.gif", lambda file: save_animation([NOISE, -NOISE], file)),
        ("walk.webp", lambda file: save_animation([NOISE, -NOISE], file)),
        ("density.png", lambda file: save_density(NOISE.view(-1, 2), file)),
        ("sheet.png", lambda file: reverie.contact_sheet(open_data(DataConfig(source="digits")), file)),
        ("points.png", lambda file: reverie.contact_sheet(open_data(DataConfig(source="moons")), file)),
    ],
)
def test_full_disk_keeps_the_picture_that_was_there(name: str, write: Callable[[Path], None], tmp_path: Path) -> None:
    file = tmp_path / name
    write(file)
    before = file.read_bytes()
    assert len(before) > 100
    with full_from(100), pytest.raises(ReverieError, match=f"cannot write {file}: "):
        write(file)
    assert [f.name for f in tmp_path.iterdir()] == [name]
    assert file.read_bytes() == before


@pytest.mark.parametrize("there", [False, True])
def test_full_disk_leaves_no_part_of_a_folder_of_samples(there: bool, tmp_path: Path) -> None:
    out = tmp_path / "samples"
    if there:
        out.mkdir()
    blank = torch.full((4, 1, 16, 16), -1.0)
    blank[2:] = NOISE[2:]  # two files fit
    with full_from(200), pytest.raises(ReverieError, match=r"cannot write .*000002-1\.png"):
        reverie.save_samples(Samples(blank, torch.ones(4, dtype=torch.int64)), out)
    assert out.exists() == there
    reverie.save_samples(Samples(blank, None), out)
    assert len(list(out.iterdir())) == 4


def test_full_disk_is_told_of_checkpoints_where_there_are_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ReverieError) as raised:
        write_atomically(tmp_path / "x.png", b"x")
    assert (
        str(raised.value) == f"cannot write {tmp_path}/x.png: the disk is full; free some space and repeat the command"
    )
    with pytest.raises(
        ReverieError, match=r"weights\.safetensors: the disk is full; the last complete checkpoint is kept"
    ):
        checkpoint.save_tensors({}, tmp_path / "weights.safetensors")
    with pytest.raises(ReverieError, match="No such file or directory; give another place"):
        write_atomically(tmp_path / "nowhere" / "x.png", b"x")


@pytest.mark.parametrize("budget", [{"train.steps": 2}, {"train.steps": None, "train.time": 1e-6}])
def test_a_budget_that_was_had_leaves_the_recipe(
    budget: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = small(tmp_path / "run")
    recipe, model = run.recipe_file.read_bytes(), run.model_file.read_bytes()
    changes = {**CHANGES, "train.checkpoint_every": 1e9, **budget}
    reverie.train("dcgan", "digits", out=run.folder, changes=changes)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if str(run.folder) in line]
    assert re.search(r"run has had this budget \(24 images in \d+ s\): nothing is left to train", line)
    assert run.recipe_file.read_bytes() == recipe, "it tells of three steps, and three were made"
    assert run.model_file.read_bytes() == model
    run.recipe_file.unlink()
    small(run.folder, **budget)
    assert run.recipe_file.read_bytes() == recipe, "lost, it is written again as it was"
    assert small(run.folder, **{"train.steps": 4}).recipe.train["steps"] == 4


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    (pictures / "samples").mkdir(parents=True)
    (pictures / "samples" / "cat.png").write_bytes(b"a cat")
    for other in ("samples", "dog.png"):
        (pictures / other).touch()
        with pytest.raises(RequestError, match="pictures is not empty and holds no run; name a new folder with --out"):
            small(pictures)
    (pictures / "recipe.yaml").write_text("mine")
    with pytest.raises(RequestError, match="is not empty and holds no run"):
        small(pictures)
    assert sorted(file.name for file in pictures.iterdir()) == ["dog.png", "recipe.yaml", "samples"]
    assert (pictures / "recipe.yaml").read_text() == "mine"
    for name, held in {"none": [], "hidden": [".DS_Store"], "begun": ["recipe.yaml", "journal.jsonl"]}.items():
        (tmp_path / name).mkdir()
        for file in held:
            (tmp_path / name / file).touch()
        assert small(tmp_path / name, **{"train.steps": 1}).model_file.is_file()


def test_a_number_that_is_not_finite_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small(tmp_path / "run")
    good = newest(run)
    take_turn = loop.Loop._take_turn

    def poison(self: loop.Loop, seat: loop.Seat, k: int, batches: dict) -> object:
        if self.progress.round == 4 and seat.player.name == "discriminator":
            with torch.no_grad():
                seat.weights[0].fill_(float("nan"))
        return take_turn(self, seat, k, batches)

    monkeypatch.setattr(loop.Loop, "_take_turn", poison)
    with pytest.raises(ReverieError, match=r"step 4: the discriminator's loss term 'adversarial' is nan") as caught:
        small(tmp_path / "run", **{"train.steps": 9})
    assert caught.value.exit_code == 1
    assert all(torch.equal(good[key], value) for key, value in newest(run).items())


def test_a_run_takes_back_only_its_own_recipe_and_data(tmp_path: Path) -> None:
    small(tmp_path / "run")
    with pytest.raises(RequestError, match=r"another run: train.batch is 8 there, 4 here"):
        small(tmp_path / "run", **{"train.batch": 4})
    with pytest.raises(RequestError, match=r"another run"):
        reverie.train("dcgan", "emoji", out=tmp_path / "run", changes=CHANGES, quiet=True)
    with pytest.raises(RequestError, match=r"another run: model.name"):
        reverie.train("vae", "digits", out=tmp_path / "run", changes=CHANGES, quiet=True)


def test_a_second_process_is_told_so(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    with run.lock(), pytest.raises(RequestError, match="in use by another process"):
        small(tmp_path / "run")


def test_parts_are_copied_hashed_and_missed(tmp_path: Path) -> None:
    first = small(tmp_path / "first")
    changes = {**CHANGES, "train.steps": 1, "start": f"run:{first.folder}", "train.seed": 1}
    second = reverie.train("dcgan", "digits", out=tmp_path / "second", changes=changes, quiet=True)
    fresh = reverie.load(small(tmp_path / "third", **{"train.steps": 1, "train.seed": 1}))
    started, source = reverie.load(second), reverie.load(first)

    def distance(a: torch.nn.Module, b: torch.nn.Module) -> float:
        return sum(float((p - q).square().sum()) for p, q in zip(a.parameters(), b.parameters(), strict=True))

    assert distance(started, source) < 0.1 * distance(fresh, source), "one step from the part's weights"
    assert second.recipe.parts["start"].sha256
    assert parts_of_other_data(second.parts, second.recipe) == []
    other = second.recipe.model_copy(update={"data": {**second.recipe.data, "source": "emoji"}})
    assert parts_of_other_data(second.parts, other) == ["start was trained on digits, and this run is on emoji"]
    with pytest.raises(RequestError, match="start"):
        reverie.train("dcgan", "digits", out=tmp_path / "second", changes={**changes, "start": None}, quiet=True)
    part = second.parts / "start" / "model.safetensors"
    part.write_bytes(part.read_bytes()[:-1] + b"\0")
    with pytest.raises(ReverieError, match="has changed"):
        reverie.train("dcgan", "digits", out=tmp_path / "second", changes={**changes, "train.steps": 2}, quiet=True)
    part.unlink()
    with pytest.raises(ReverieError, match="is missing"):
        reverie.train("dcgan", "digits", out=tmp_path / "second", changes={**changes, "train.steps": 2}, quiet=True)
    with pytest.raises(RequestError, match="start is a dcgan, from which this gan cannot go on"):
        reverie.train("gan", "digits", out=tmp_path / "y", changes=changes, quiet=True)
    with pytest.raises(RequestError, match="no run at"):
        reverie.train("dcgan", "digits", out=tmp_path / "x", changes={**changes, "start": "run:nowhere"}, quiet=True)


def test_time_is_time_in_rounds_over_all_resumes(tmp_path: Path) -> None:
    changes = {**CHANGES, "train.steps": None, "train.time": 0.6}

    def pause(progress: Progress) -> bool:
        time.sleep(0.05)  # not training: it must not be counted
        return progress.fraction > 0.4

    run = reverie.train("dcgan", "digits", out=tmp_path / "run", changes=changes, quiet=True, stop=pause)
    reverie.train("dcgan", "digits", out=tmp_path / "run", changes=changes, quiet=True)
    events = list(run.journal())
    done = events[-1]
    assert done["event"] == "done"
    assert 0.6 <= done["seconds"] < 0.9
    assert [e["event"] for e in events].count("resume") == 1
    fractions = [event["fraction"] for event in events if event["event"] == "log"]
    assert fractions == sorted(fractions)
    state = json.loads((sorted(run.checkpoints.glob("[0-9]*"))[-1] / "state.json").read_text())
    assert state["progress"]["fraction"] == 1.0


def test_a_training_that_is_refused_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match="more than this model's T"):
        reverie.train("ddpm", "digits", out=tmp_path / "run", changes={**CHANGES, "model.steps": 20}, quiet=True)
    assert not (tmp_path / "run").exists()
    folder = small(tmp_path / "trained").folder
    with pytest.raises(RequestError, match="another run"):
        small(folder, **{"train.batch": 4})
    assert (folder / "model.safetensors").is_file(), "what was there stays"

    def fail(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(loop, "optimizer", fail)
    with pytest.raises(ValueError, match="a bug"):
        small(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_first_attempt_that_failed_does_not_hold_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ReverieError, match=r"not finite|nan"):
        small(tmp_path / "run", **{"model.discriminator_optimizer.lr": 1e30, "train.steps": 9})
    assert int(newest(small(tmp_path / "run"))["round"]) == 3


def test_a_run_of_before_some_option_there_was_goes_on(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    older = yaml.safe_load(run.recipe_file.read_text())
    for section, key in (
        ("model", "input_noise"),
        ("train", "log_every"),
        ("train", "channels_last"),
        ("data", "maps"),
    ):
        del older[section][key]
    del older["model"]["generator"]["max_width"]
    run.recipe_file.write_text(yaml.safe_dump(older))
    with pytest.raises(RequestError, match=r"model.input_noise is 0.0 there, 0.1 here"):
        small(tmp_path / "run", **{"model.input_noise": 0.1})
    assert int(newest(small(tmp_path / "run", **{"train.steps": 4}))["round"]) == 4


def test_a_model_without_checkpoints_is_not_written_over(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    before = run.model_file.read_bytes()
    shutil.rmtree(run.checkpoints)
    with pytest.raises(RequestError, match="no checkpoint to go on from"):
        small(tmp_path / "run", **{"train.steps": 4})
    assert run.model_file.read_bytes() == before


def test_a_lost_recipe_does_not_open_the_folder_to_others(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    whole = run.recipe_file.read_text()
    run.recipe_file.write_text(whole[:120])
    with pytest.raises(RequestError, match="if it is damaged, remove it"):
        small(tmp_path / "run")
    body = yaml.safe_load(whole)
    without = [yaml.safe_dump({k: v for k, v in body.items() if k != section}) for section in ("data", "train")]
    for cut in (whole[: whole.index("train:")], whole[: whole.index("data:")], whole[:-9], *without):
        run.recipe_file.write_text(cut)
        with pytest.raises(RequestError, match=r"recipe.yaml is damaged .*: remove it, and the same command writes"):
            small(tmp_path / "run")
    run.recipe_file.unlink()
    with pytest.raises(RequestError, match=r"train.batch is 8 there, 4 here"):
        small(tmp_path / "run", **{"train.batch": 4})
    assert int(newest(small(tmp_path / "run", **{"train.steps": 4}))["round"]) == 4


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("state.json", b"[]"),
        ("state.json", b'{"progress": {"round": "x"}}'),
        ("weights.safetensors", b"garbage"),
        ("optimizers.safetensors", None),  # of another model
        ("weights.safetensors", None),
    ],
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(name: str, content: bytes | None, tmp_path: Path) -> None:
    run = small(tmp_path / "run", **{"train.checkpoint_every": 1e-6})
    older, newer = sorted(run.checkpoints.glob("[0-9]*"))
    other = small(tmp_path / "other", **{"model.generator.width": 16}).checkpoints / "000000003" / name
    (newer / name).write_bytes(other.read_bytes() if content is None else content)
    again = small(tmp_path / "run", **{"train.steps": 4})
    resumed = next(event for event in again.journal() if event["event"] == "resume")
    assert resumed["round"] == int(older.name)
    assert int(newest(again)["round"]) == 4


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("round", "-3"),
        ("round", "7"),
        ("images", "-8"),
        ("images", "1" + 30 * "0"),
        ("images", "1e999"),
        ("fraction", "1.5"),
        ("fraction", "-0.5"),
        ("spent", "NaN"),
        ("spent", "1e999"),
        ("spent", "-1.0"),
        ("average_updates", "-1"),
        ("average_updates", "1e999"),
    ],
)
def test_a_place_that_no_training_gets_to_is_damage(key: str, value: str, tmp_path: Path) -> None:
    run = small(tmp_path / "run", **{"train.checkpoint_every": 1e-6})
    older, newer = sorted(run.checkpoints.glob("[0-9]*"))
    state = newer / "state.json"
    changed, count = re.subn(rf'"{key}": [^,\n}}]+', f'"{key}": {value}', state.read_text())
    assert count == 1
    state.write_text(changed)
    again = small(tmp_path / "run", **{"train.steps": 4})
    resumed = next(event for event in again.journal() if event["event"] == "resume")
    assert resumed["round"] == int(older.name)
    assert int(newest(again)["round"]) == 4


@pytest.mark.parametrize("rename", [lambda name: None, lambda name: name.replace("exp_avg", "mean")])
def test_optimisers_that_are_not_whole_are_damage(rename: Callable[[str], str | None], tmp_path: Path) -> None:
    run = small(tmp_path / "run", **{"train.checkpoint_every": 1e-6})
    older, newer = sorted(run.checkpoints.glob("[0-9]*"))
    kept = {rename(name): value for name, value in load_file(newer / "optimizers.safetensors").items()}
    save_file({name: value for name, value in kept.items() if name}, newer / "optimizers.safetensors")
    again = small(tmp_path / "run", **{"train.steps": 4})
    resumed = next(event for event in again.journal() if event["event"] == "resume")
    assert resumed["round"] == int(older.name)
    assert int(newest(again)["round"]) == 4


@pytest.mark.parametrize(
    "changes",
    [{"name": "adam"}, {"name": "adamw"}]
    + [{"name": name, "momentum": momentum} for name in ("rmsprop", "sgd") for momentum in (0.0, 0.9)],
)
def test_optimisers_keep_what_is_looked_for(changes: dict[str, object]) -> None:
    config = OptimizerConfig.read(changes, "")
    weight = torch.nn.Parameter(torch.ones(3))
    rule = optimizer(config, [weight])
    weight.grad = torch.ones(3)
    rule.step()
    state = rule.state_dict()["state"].get(0, {})
    kept = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    assert kept.keys() == state_names(config)
    assert all(value.shape == (() if name == "step" else (3,)) for name, value in kept.items())


def go_on_and_die_removing(out: Path) -> None:
    def die(folder: Path, ignore_errors: bool = False) -> None:
        if (folder / "state.json").is_file():
            (folder / "state.json").unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.shutil.rmtree = die  # type: ignore[assignment]
    torch.set_num_threads(1)
    small(out, **{"train.steps": 4, "train.keep": 1})


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_removal_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "reverie.training.train"])
    process = context.Process(target=go_on_and_die_removing, args=(run.folder,))
    process.start()
    process.join()
    assert process.exitcode == -9
    assert [folder.name for folder in run.checkpoints.glob("[0-9]*")] == ["000000004"]
    assert list(run.checkpoints.glob(".*.tmp")), "it died while it removed the one before"
    (run.checkpoints / "000000002").mkdir()
    (run.checkpoints / "000000002" / "weights.safetensors").touch()
    small(run.folder, **{"train.steps": 5})
    assert sorted(file.name for file in run.checkpoints.iterdir()) == ["000000004", "000000005"]


def test_a_damaged_checkpoint_takes_no_place_of_those_kept(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    small(run.folder, **{"train.steps": 6})
    (run.checkpoints / "000000006" / "state.json").write_text("[]")
    changes = {**CHANGES, "train.checkpoint_every": 1e9, "train.keep": 1}
    reverie.train("dcgan", "digits", out=run.folder, changes=changes, quiet=True, stop=lambda _: True)
    assert [folder.name for folder in checkpoint.finished(run)] == ["000000006", "000000004"], "not the damaged alone"


def test_when_no_checkpoint_can_be_read_the_reason_and_the_model_are_named(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    (run.checkpoints / "000000003" / "state.json").write_text("{}")
    here = re.escape(str(run.folder))
    reason = r"can be read \(000000003: 'progress' is missing\); "
    with pytest.raises(ReverieError, match=rf"{reason}model.safetensors is there to use.*start=run:{here}"):
        small(run.folder, **{"train.steps": 4})
    run.model_file.unlink()
    with pytest.raises(ReverieError, match=rf"{reason}remove the folder to start afresh"):
        small(run.folder, **{"train.steps": 4})


def test_damaged_lines_of_the_journal_are_passed_over(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    with open(run.journal_file, "ab") as journal:
        journal.write(b'3\n\xff\xfe\n{"event": "log", "round": "x"}\n')
        for field in (b'"values": 3', b'"values": ["loss"]', b'"values": null', b'"seconds": "x"', b'"images": null'):
            journal.write(b'{"event": "log", "round": 3, %s}\n' % field)
        journal.write(b'{"event": "log", "round": 3, "values": {"discriminator/adversarial": "much"}}\n{"event": "lo')
    assert {len(curve.values) for curve in read_curves(run.journal())} == {3}
    assert {len(values) for values in read_history(run).values.values()} == {3}
    events = [event["event"] for event in small(tmp_path / "run", **{"train.steps": 4}).journal()]
    assert events[-1] == "done"
    assert events.count("start") == 1
