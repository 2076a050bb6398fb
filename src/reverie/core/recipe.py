"""Recipes: a named composition with its defaults, plus the user's ``key.path=value`` changes.

A recipe is data, never code: it names a model's file and that file's own ``Config`` checks what it says.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from reverie.core.catalog import UNREADABLE, Entry, Loader, find
from reverie.core.errors import RequestError, nearest
from reverie.core.files import write_atomically
from reverie.core.strict import Strict

PARTS = ("start", "teacher", "autoencoder", "base")
"""Keys of a recipe that name another run, as in ``teacher: run:runs/big``."""


class PaperRecord(Strict):
    """A reference."""

    title: str
    authors: str
    year: int
    url: str


class PartRecord(Strict):
    """A run that this one is built on: where it was, and the SHA-256 of its ``model.safetensors``."""

    run: str
    sha256: str


class Recipe(Strict):
    """A recipe as written or, in a run folder, with every default filled in.

    Arguments:
        name, family, summary, follows, papers, capabilities, needs: the header (see ``catalog.Entry``).
        model: the model's file (``name``) and its configuration.
        train: how it is trained (``train.config.TrainConfig``).
        data: what it is trained on (``data.DataConfig``).
        start: ``run:PATH`` of a run whose weights training begins from.
        teacher: ``run:PATH`` of a run that the loss asks.
        autoencoder: ``run:PATH`` of a run whose latents are modelled.
        base: ``run:PATH`` of a run whose model is kept as it is and built upon.
        parts: what became of the four above; written by training.
        data_hash: of the data's content and transform; written by training.
    """

    name: str = Field(pattern=r"^\w[\w .+-]{0,99}$")  # it becomes part of a folder's name
    family: str = ""
    summary: str = ""
    follows: str = ""
    papers: tuple[PaperRecord, ...] = ()
    capabilities: tuple[str, ...] = ()
    needs: tuple[Literal["start", "teacher", "autoencoder", "base"], ...] = ()
    model: dict[str, Any]
    train: dict[str, Any] = {}
    data: dict[str, Any] = {}
    start: str | None = None
    teacher: str | None = None
    autoencoder: str | None = None
    base: str | None = None
    parts: dict[str, PartRecord] = {}
    data_hash: str = ""

    def to_yaml(self) -> str:
        """The recipe as YAML, empty fields left out."""
        body = {k: v for k, v in self.model_dump(mode="json").items() if v not in (None, "", [], {})}
        return yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=120)


def read_recipe(name: str, changes: Iterable[str] | Mapping[str, Any] = ()) -> Recipe:
    """Finds a recipe by name or path and applies changes to it.

    Arguments:
        name: a name from ``reverie models``, or the path of a YAML file.
        changes: ``"key.path=value"`` strings (values are YAML), or a mapping of paths to values.

    Raises:
        RequestError: the recipe or a key is unknown, or a value cannot be read.
    """
    return from_entry(find(name), changes)


def from_entry(entry: Entry, changes: Iterable[str] | Mapping[str, Any] = ()) -> Recipe:
    """The recipe of a catalog entry, with changes applied."""
    body = copy.deepcopy(entry.body)
    body.setdefault("name", entry.name)
    body.setdefault("family", entry.family)
    pairs = changes.items() if isinstance(changes, Mapping) else map(parse_change, changes)
    for path, value in pairs:
        set_path(body, path, value)
    if not isinstance(body.get("model"), dict) or not isinstance(body["model"].get("name"), str):
        raise RequestError(f"{entry.file}: 'model' must name a model's file, as in model: {{name: ddpm}}")
    return Recipe.read(body, "")


def parse_change(text: str) -> tuple[str, Any]:
    """Reads ``key.path=value``; the value is YAML, and ``1e-3`` is a number.

    Raises:
        RequestError: there is no ``=``, or the value is not YAML.
    """
    path, equals, raw = text.partition("=")
    if not equals or not path.strip():
        raise RequestError(f"'{text}' is not a change; write key.path=value, as in train.batch=64")
    try:
        value = yaml.load(raw, Loader=Loader)
    except UNREADABLE:
        hint = f"; a value with spaces stands in quotes: '{path}={{a: 1}}'" if raw.startswith(("{", "[")) else ""
        raise RequestError(f"'{text}': the value cannot be read as YAML{hint}") from None
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)  # YAML 1.1 reads 1e-3 as text
    return path.strip(), value


def set_path(body: dict[str, Any], path: str, value: Any) -> None:
    """Sets a value of a recipe, as ``put`` does.

    Raises:
        RequestError: the first key is not one of a recipe's.
    """
    keys = path.split(".")
    sections = {"model", "train", "data", *PARTS}
    if keys[0] not in sections:
        within = [name for name in ("train", "model", "data") if keys[0] in (body.get(name) or {})]
        hint = f"; did you mean '{within[0]}.{path}'?" if within else nearest(keys[0], sections)
        raise RequestError(f"unknown key '{path}'{hint}")
    put(body, path, value)


def put(body: dict[str, Any], path: str, value: Any) -> None:
    """Sets ``body["a"]["b"]`` for the path ``"a.b"``, whatever the first key; what has a name alone becomes a mapping.

    Raises:
        RequestError: a key on the way is no section.
    """
    keys = path.split(".")
    here = body
    for key in keys[:-1]:
        below = here.get(key)
        if isinstance(below, str):
            below = {"name": below}
        here[key] = below = {} if below is None else below
        if not isinstance(below, dict):
            raise RequestError(f"'{path}': '{key}' is a value, not a section")
        here = below
    here[keys[-1]] = value


def save_recipe(recipe: Recipe, file: Path) -> None:
    """Writes a recipe so that ``reverie train FILE`` repeats the run."""
    write_atomically(file, recipe.to_yaml().encode())
