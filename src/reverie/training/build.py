"""From a recipe to a model, and from a run folder back to a model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from reverie.core.catalog import model_source, resolve_network
from reverie.core.device import pick_device
from reverie.core.errors import RequestError, ReverieError
from reverie.core.files import sha256
from reverie.core.model import Model, ModelConfig, Part
from reverie.core.recipe import PARTS, PartRecord, Recipe, read_recipe
from reverie.core.run import Run
from reverie.core.space import Space
from reverie.training.checkpoint import load_weights, save_tensors, weights_of


def resolve(recipe: Recipe, space: Space) -> tuple[Recipe, ModelConfig]:
    """Fills in every default of a recipe's model for a kind of data.

    Raises:
        RequestError: a key is unknown or a value does not fit.
    """
    name = recipe.model["name"]
    source = model_source(name)
    config = source.config.read({k: v for k, v in recipe.model.items() if k != "name"}, "model")
    networks = {
        field: resolve_network(role, getattr(config, field), space, auto, f"model.{field}")
        for field, (role, auto) in source.model.networks.items()
    }
    config = config.model_copy(update=networks)
    return recipe.model_copy(update={"model": {"name": name, **config.model_dump(mode="json")}}), config


def build(recipe: Recipe, config: ModelConfig, space: Space, parts: Mapping[str, Part], seed: int) -> Model:
    """Creates a model with initial weights that depend on the seed alone; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model_source(recipe.model["name"]).model(config, space, parts)


def create(
    recipe: str,
    space: Space,
    *,
    changes: Iterable[str] | Mapping[str, Any] = (),
    seed: int = 0,
    parts: str | None = None,
) -> Model:
    """Creates an untrained model.

    Arguments:
        recipe: a name from ``reverie models``, or a YAML file's path.
        space: what one row is, as in ``Space((1, 28, 28), classes=10)``.
        changes: ``"key.path=value"`` strings, or a mapping.
        seed: of the initial weights.
        parts: a folder that holds the parts the recipe needs, as in a run; none where None.

    Raises:
        RequestError: the recipe or a key is unknown, or a value does not fit.
    """
    resolved, config = resolve(read_recipe(recipe, changes), space)
    held = load_parts(Path(parts), resolved) if parts else {}
    return build(resolved, config, space, held, seed)


def load(run: str | Path | Run, device: str = "cpu") -> Model:
    """Loads a run's model, ready to sample: averaged weights, eval mode. It needs no trainer and no data.

    Arguments:
        run: a run folder.
        device: where to put it; ``auto`` picks.

    Raises:
        RequestError: there is no trained model.
        ReverieError: the file is damaged, or a part is missing or changed.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    recipe, space, _ = read_model_header(run.model_file)
    resolved, config = resolve(recipe, space)
    model = build(resolved, config, space, load_parts(run.parts, recipe), seed=0)
    load_weights(model, load_file(run.model_file))
    if space.is_image:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.to(pick_device(device)).eval().requires_grad_(False)


def read_model_header(file: Path) -> tuple[Recipe, Space, tuple[str, ...]]:
    """What ``model.safetensors`` says of itself: the resolved recipe, the space, the classes' names.

    Raises:
        ReverieError: it is damaged, or not a model of Reverie.
    """
    try:
        with safe_open(file, framework="pt") as tensors:
            header = json.loads((tensors.metadata() or {})["reverie"])
        space: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in header["space"].items()}
        return Recipe.read(header["recipe"], ""), Space(**space), tuple(header["classes"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ReverieError(
            f"{file} is damaged, or no model of Reverie ({error}); where there are checkpoints, the training's own "
            "command writes it again"
        ) from None


def is_whole(file: Path) -> bool:
    """Whether a file is a model that can be read."""
    try:
        read_model_header(file)
    except ReverieError:
        return False
    return True


def save_model(model: Model, recipe: Recipe, classes: tuple[str, ...], run: Run) -> None:
    """Writes ``model.safetensors``: the weights as they stand, the recipe, the space; old or new, never half.

    Raises:
        ReverieError: the disk is full or refuses.
    """
    space = {**vars(model.data_space), "shape": list(model.data_space.shape)}
    header = {"recipe": recipe.model_dump(mode="json"), "space": space, "classes": list(classes)}
    temporary = run.folder / ".model.tmp"
    try:
        save_tensors(weights_of(model), temporary, {"reverie": json.dumps(header)})
        temporary.replace(run.model_file)
    finally:
        temporary.unlink(missing_ok=True)


def copy_parts(recipe: Recipe, run: Run) -> Recipe:
    """Copies the runs that a recipe names into its own run, and records their hashes.

    Raises:
        RequestError: a needed part is not named, the model takes none of a kind that is, a value is not ``run:PATH``,
            or there is no such run.
    """
    takes = ("start", *model_source(recipe.model["name"]).model.takes)
    for need in recipe.needs:
        if getattr(recipe, need) is None:
            raise RequestError(f"{recipe.name} needs {need}=run:PATH, a trained run")
    records: dict[str, PartRecord] = {}
    for name in PARTS:
        value = getattr(recipe, name)
        if value is None:
            continue
        if name not in takes:
            raise RequestError(f"{recipe.name} takes no {name}: leave {name}={value} out")
        if not value.startswith("run:"):
            raise RequestError(f"{name}={value}: write {name}=run:PATH, the folder of a trained run")
        source = Run.open(value.removeprefix("run:"))
        target = run.parts / name
        target.mkdir(parents=True, exist_ok=True)
        for file in (source.model_file, source.recipe_file):
            shutil.copyfile(file, target / file.name)
        if source.parts.is_dir():
            shutil.copytree(source.parts, target / "parts", dirs_exist_ok=True)
        records[name] = PartRecord(run=str(source.folder), sha256=sha256(target / source.model_file.name))
    return recipe.model_copy(update={"parts": records})


def load_parts(folder: Path, recipe: Recipe) -> dict[str, Part]:
    """Loads the parts that a run holds, ``start`` apart (its weights are copied, it is not asked again).

    Raises:
        ReverieError: a part is missing or changed.
    """
    check_parts(folder, recipe)
    return {name: Part(load(folder / name)) for name in recipe.parts if name != "start"}


def parts_of_other_data(folder: Path, recipe: Recipe) -> list[str]:
    """What is said of the parts of a run that were trained on another source: their rows may only look alike."""
    found = []
    for name in recipe.parts:
        source = read_model_header(Run(folder / name).model_file)[0].data["source"]
        if source != recipe.data["source"]:
            found.append(f"{name} was trained on {source}, and this run is on {recipe.data['source']}")
    return found


def check_parts(folder: Path, recipe: Recipe) -> None:
    """Holds the parts of a run against the hashes in its recipe.

    Raises:
        ReverieError: a part is missing or changed.
    """
    for name, record in recipe.parts.items():
        file = Run(folder / name).model_file
        if not file.is_file():
            raise ReverieError(f"the run's part '{name}' is missing: {file} (a copy of {record.run})")
        if sha256(file) != record.sha256:
            raise ReverieError(f"the run's part '{name}' has changed: {file} is no longer the copy of {record.run}")
