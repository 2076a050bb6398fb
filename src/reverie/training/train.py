"""``train``: a recipe and a source of data in, a run folder out; the same call again resumes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from reverie.core.device import pick_device
from reverie.core.errors import RequestError, ReverieError
from reverie.core.player import Progress
from reverie.core.recipe import PARTS, Recipe, parse_change, read_recipe, save_recipe
from reverie.core.run import Run
from reverie.core.space import Space
from reverie.core.terminal import reading_bar
from reverie.data.config import DataConfig
from reverie.data.dataset import Dataset, open_data
from reverie.training.build import check_parts, copy_parts, read_model_header, resolve
from reverie.training.checkpoint import clear_halves, finished
from reverie.training.config import WATCHING, TrainConfig
from reverie.training.ranks import Ranks
from reverie.training.sitting import Sitting

OWN = frozenset(("recipe.yaml", "journal.jsonl", "checkpoints", "parts", "samples", "report", "tensorboard"))
"""What a start that came to nothing may leave in a folder."""


def train(
    recipe: str,
    data: str | Path | None = None,
    *,
    out: str | Path | None = None,
    time: str | float | None = None,
    steps: int | None = None,
    images: int | None = None,
    changes: Iterable[str] | Mapping[str, Any] = (),
    device: str = "auto",
    quiet: bool = False,
    stop: Callable[[Progress], bool] | None = None,
) -> Run:
    """Trains a model, or goes on training it.

    Arguments:
        recipe: a name from ``reverie models``, or a YAML file's path.
        data: a source; the recipe's where None.
        out: the run folder; ``runs/<recipe>-<source>`` where None.
        time: budget, in seconds or as ``"10m"``: time spent in rounds, over all resumes.
        steps: budget in rounds.
        images: budget in images seen.
        changes: ``"key.path=value"`` strings, or a mapping.
        device: ``auto``, ``cpu``, ``cuda`` …
        quiet: say nothing.
        stop: asked after each round; True writes a checkpoint and returns.

    Returns:
        The run.

    Raises:
        RequestError: the request is wrong, or the folder holds another run.
        Interrupted: Ctrl-C or SIGTERM; a checkpoint was written.
        ReverieError: the training failed; the last good checkpoint is kept.
    """
    asked = _ask(recipe, data, time, steps, images, changes)
    place = pick_device(device)
    ranks = Ranks(place)
    config = TrainConfig.read(asked.train, "train")
    if config.batch % (config.accumulate * ranks.world):
        shares = f"{ranks.world} processes x {config.accumulate} micro-batches"
        raise RequestError(f"train.batch={config.batch} does not divide into {shares}")
    with nullcontext() if quiet or not ranks.first else reading_bar() as progress:
        dataset = open_data(DataConfig.read(asked.data, "data"), progress=progress)
    resolved = _complete(asked, config, dataset)
    if out is not None and not str(out):
        raise RequestError("--out is empty; name a folder")
    run = Run(out or Path("runs") / f"{resolved.name}-{_name_of(dataset.config.source)}")
    with _begun(run, resolved, dataset.space, ranks) as there:
        sitting = Sitting(run, config, dataset, place, ranks, quiet)
        if ranks.first and sitting.left:
            sitting.watch_as(there)
        sitting.go(stop)
    return run


@contextmanager
def _begun(run: Run, resolved: Recipe, space: Space, ranks: Ranks) -> Iterator[Recipe]:
    """Within it the first process holds the run, for all; gives the recipe with which it goes on.

    Raises:
        RequestError: the first process refuses: all others would wait for it, and break where it leaves.
    """
    with ExitStack() as held:
        refusal = None
        try:
            if ranks.first:
                held.enter_context(_held(run))
                run.clear_temporary()
                resolved = _settle(run, resolved, space)
                clear_halves(run)
        except (ReverieError, OSError) as error:
            refusal = error
        if ranks.any(refusal is not None):
            raise refusal or RequestError("the first process refuses, and says why")
        yield resolved


def _check_folder(run: Run) -> None:
    """Holds that a folder in which nothing was trained is empty, or has what a start of ours left in it.

    Raises:
        RequestError: it holds something else, among which checkpoints and samples would be lost.
    """
    if not run.folder.is_dir() or _trained(run):
        return
    held = {file.name for file in run.folder.iterdir() if not file.name.startswith(".")}
    # The recipe is the first thing written, but for the parts that it records.
    if held - OWN or (held - {run.parts.name} and run.recipe_file.name not in held):
        raise RequestError(f"{run.folder} is not empty and holds no run; name a new folder with --out")


def _trained(run: Run) -> bool:
    return run.model_file.is_file() or bool(finished(run))


@contextmanager
def _held(run: Run) -> Iterator[None]:
    """Holds a run for this process; a folder that it made goes again where nothing was trained.

    It goes where all is refused, or fails before the journal, which tells the doctor of a failure, was begun.
    """
    _check_folder(run)
    new = not run.folder.exists()
    with run.lock():
        try:
            yield
        except Exception as error:
            told = run.journal_file.is_file() and not isinstance(error, RequestError)
            if new and not told and not _trained(run):
                shutil.rmtree(run.folder, ignore_errors=True)
            raise


def _name_of(source: str) -> str:
    """A source's name, as a run folder's may hold it."""
    path = Path(source)
    name = path.stem if path.suffix in (".zip", ".gz", ".yaml") else path.name
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "data"


def _complete(asked: Recipe, config: TrainConfig, dataset: Dataset) -> Recipe:
    """The recipe with every default and every choice that the data decide."""
    resolved, _ = resolve(asked, dataset.space)
    return resolved.model_copy(
        update={
            "train": config.model_dump(mode="json"),
            "data": dataset.config.model_dump(mode="json"),
            "data_hash": dataset.hash,
        }
    )


def _ask(
    recipe: str,
    data: str | Path | None,
    time: str | float | None,
    steps: int | None,
    images: int | None,
    changes: Iterable[str] | Mapping[str, Any],
) -> Recipe:
    pairs = dict(changes) if isinstance(changes, Mapping) else dict(map(parse_change, changes))
    if data is not None:
        if not str(data):
            raise RequestError("--data is empty; name a folder, a zip, or a built-in source such as digits")
        pairs["data.source"] = str(data)
    budget = {"time": time, "steps": steps, "images": images}
    named = {k: v for k, v in budget.items() if v is not None} or {
        k: pairs[f"train.{k}"] for k in budget if pairs.get(f"train.{k}") is not None
    }
    if len(named) > 1:
        raise RequestError(f"give one budget, not {' and '.join(named)}")
    if named:
        pairs |= {f"train.{k}": named.get(k) for k in budget}
    return read_recipe(recipe, pairs)


def _settle(run: Run, resolved: Recipe, space: Space) -> Recipe:
    """Writes a fresh run's recipe, or holds the one that is there against the one asked for.

    Returns:
        The recipe that is there, to be watched, and to go on for as long, as is asked now.

    Raises:
        RequestError: they differ in what is trained.
    """
    if not _trained(run):  # whatever was tried
        fresh = copy_parts(resolved, run)
        save_recipe(fresh, run.recipe_file)
        return fresh
    there = _recipe_of(run, resolved.data_hash)
    old, new = _identity(_up_to_date(there, space)), _identity(resolved)
    for key in sorted(old.keys() | new.keys(), key=lambda key: (key != "model.name", key)):
        if old.get(key) != new.get(key):
            if key == "data_hash":
                raise RequestError(
                    f"{run.folder} was trained on other data ({there.data['source']}, as it was then); "
                    "give another --out to train on these"
                )
            raise RequestError(
                f"{run.folder} holds another run: {key} is {old.get(key)!r} there, {new.get(key)!r} here; "
                "give another --out, or the same recipe and data to resume"
            )
    check_parts(run.parts, there)
    if run.model_file.is_file() and not finished(run):
        raise RequestError(
            f"{run.folder} holds a model and no checkpoint to go on from: give another --out, and "
            f"start=run:{run.folder} to begin with its weights"
        )
    if not run.recipe_file.is_file():
        save_recipe(there, run.recipe_file)
    return there.model_copy(update={"train": {**there.train, **{k: resolved.train[k] for k in WATCHING}}})


def _recipe_of(run: Run, data_hash: str) -> Recipe:
    """The recipe of what was trained in a folder, that of its model where the file is lost.

    Raises:
        RequestError: the file is damaged, or there is neither.
    """
    if not run.recipe_file.is_file():
        if not run.model_file.is_file():
            raise RequestError(f"{run.folder} holds checkpoints and no recipe.yaml to tell of what; give another --out")
        return read_model_header(run.model_file)[0]
    there = run.recipe
    # The hash is the last line: a file that was cut has none, or the beginning of one.
    cut = there.data_hash != data_hash and data_hash.startswith(there.data_hash)
    if cut or not there.train or "source" not in there.data:
        remedy = "remove it, and the same command writes it again" if run.model_file.is_file() else "give another --out"
        raise RequestError(f"{run.recipe_file} is damaged (a part of it is missing): {remedy}")
    return there


def _up_to_date(recipe: Recipe, space: Space) -> Recipe:
    """A run's recipe with the defaults of options that were not there when it began; as it is where it does not fit."""
    try:
        resolved, _ = resolve(recipe, space)
        train = TrainConfig.read(recipe.train, "train").model_dump(mode="json")
        data = DataConfig.read(recipe.data, "data").model_dump(mode="json")
    except RequestError:
        return recipe
    return resolved.model_copy(update={"train": train, "data": data})


def _identity(recipe: Recipe) -> dict[str, Any]:
    """A recipe's leaves by path, without what only changes how long and how it is watched."""
    body = recipe.model_dump(mode="json", include={"model", "train", "data", "data_hash", *PARTS})
    del body["data"]["source"]  # moved data are the same data
    leaves: dict[str, Any] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, below in value.items():
                walk(below, f"{path}.{key}" if path else key)
        elif path.split(".")[-1] not in WATCHING or not path.startswith("train."):
            leaves[path] = list(value) if isinstance(value, tuple) else value

    walk(body, "")
    return {k: v for k, v in leaves.items() if not k.startswith("model.sampling")}
