"""What there is, found from files: recipes by ``recipes/<family>/<name>.yaml``, models and networks by file name.

Listing reads headers only and imports no torch. This is the one module of ``core`` that imports from outside it,
by name and only when asked for a model or a network.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from reverie.core.errors import RequestError, nearest

if TYPE_CHECKING:
    from torch import nn

    from reverie.core.choice import Choice
    from reverie.core.model import Model, ModelConfig
    from reverie.core.space import Space

PACKAGE = Path(__file__).resolve().parent.parent
RECIPES = PACKAGE / "recipes"
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where it is built in: ten times faster

# What the parser raises on text that is no YAML, on dates that are none (ValueError), and on bottomless nesting.
UNREADABLE = (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Paper:
    """A reference: what ``reverie cite`` prints."""

    title: str
    authors: str
    year: int
    url: str


@dataclass(frozen=True)
class Entry:
    """A recipe's header, for listings.

    Arguments:
        name: the file's name.
        family: its folder's name.
        summary: one line.
        follows: the equation, algorithm or section that the recipe follows.
        papers: its references, first the one it is named after.
        capabilities: names from ``reverie.core.capabilities``.
        needs: parts that must be named (``teacher``, ``autoencoder``).
        file: where it stands.
    """

    name: str
    family: str
    summary: str
    follows: str
    papers: tuple[Paper, ...]
    capabilities: tuple[str, ...]
    needs: tuple[str, ...]
    file: Path
    body: dict[str, Any] = field(repr=False, compare=False)


def read_yaml(file: Path) -> dict[str, Any]:
    """Parses a YAML mapping.

    Raises:
        RequestError: the file cannot be read, or is not a YAML mapping.
    """
    try:
        body = yaml.load(file.read_text(encoding="utf-8"), Loader=Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"cannot read {file}: {getattr(error, 'strerror', None) or 'it is not text'}") from None
    except UNREADABLE as error:
        raise RequestError(f"{file} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(body, dict):
        raise RequestError(f"{file} is not a recipe: expected 'key: value' lines")
    return body


def read_entry(file: Path) -> Entry:
    """Reads a recipe file's header."""
    body = read_yaml(file)
    try:
        papers = tuple(Paper(**paper) for paper in body.get("papers") or ())
        capabilities, needs = tuple(body.get("capabilities") or ()), tuple(body.get("needs") or ())
    except TypeError:
        raise RequestError(
            f"{file}: each of 'papers' needs title, authors, year and url; 'capabilities' and 'needs' are lists"
        ) from None
    return Entry(
        name=str(body.get("name", file.stem)),
        family=str(body.get("family", file.parent.name)),
        summary=str(body.get("summary", "")),
        follows=str(body.get("follows", "")),
        papers=papers,
        capabilities=capabilities,
        needs=needs,
        file=file,
        body=body,
    )


def entries(root: Path = RECIPES) -> Iterator[Entry]:
    """Every recipe under ``root``, by family and name."""
    for file in sorted(root.glob("*/*.yaml")):
        yield read_entry(file)


def find(name: str, root: Path = RECIPES) -> Entry:
    """The recipe of that name, or the recipe file at that path.

    Raises:
        RequestError: there is none; the message names the nearest.
    """
    if name.endswith((".yaml", ".yml")):
        return read_entry(Path(name))
    files = {file.stem: file for file in root.glob("*/*.yaml")}
    if name not in files:
        raise RequestError(f"no recipe '{name}'{nearest(name, files)} (`reverie models` lists them)")
    return read_entry(files[name])


class Source(NamedTuple):
    """A model's file: its module, its configuration and its class."""

    module: ModuleType
    config: type[ModelConfig]
    model: type[Model]


def _modules(folder: str) -> dict[str, str]:
    """Names of files under a folder of the package, hyphens for underscores, and their dotted paths."""
    files = sorted((PACKAGE / folder).rglob("*.py"))
    return {
        file.stem.replace("_", "-"): ".".join(["reverie", *file.relative_to(PACKAGE).with_suffix("").parts])
        for file in files
        if not file.stem.startswith("_")
    }


def _own_class(module: ModuleType, base: type) -> Any:
    """The one subclass of ``base`` that is defined in a module."""
    own = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    if len(own) != 1:
        raise TypeError(f"{module.__name__} must define exactly one {base.__name__}, found {len(own)}")
    return own[0]


def model_source(name: str) -> Source:
    """The file ``models/<family>/<name>.py``: its ``Config`` and its ``Model``.

    Raises:
        RequestError: there is no such model.
    """
    from reverie.core.model import Model

    known = _modules("models")
    if name not in known:
        raise RequestError(f"no model '{name}'{nearest(name, known)}")
    module = importlib.import_module(known[name])
    return Source(module, module.Config, _own_class(module, Model))


def resolve_network(role: str, choice: Choice, space: Space, auto: Choice, where: str = "model.network") -> Choice:
    """The network that a choice comes to for a kind of data, its options complete.

    Arguments:
        role: the folder under ``nn/``: ``"denoiser"``, ``"generator"``, ``"discriminator"``, ``"encoder"`` …
        choice: from the configuration.
        space: what one row is.
        auto: the model's own choice.
        where: the choice's path in the recipe, for messages.

    Raises:
        RequestError: there is no such network, or an option is unknown.
    """
    chosen = choice.for_space(space, auto)
    module = _network_module(role, chosen.name)
    options = module.Config.read(chosen.options, where)
    return chosen.model_copy(update={"options": options.model_dump(mode="json")})


def network(role: str, choice: Choice, space: Space, auto: Choice, **sizes: Any) -> nn.Module:
    """Builds the network that a choice comes to: ``Network(config, space, **sizes)``.

    Arguments are those of ``resolve_network``; ``sizes`` are the role's own (``inputs``, ``outputs``, ``latent``),
    fixed for each role and listed in the docstring of its folder.

    Raises:
        RequestError: rows come with maps, and the network would not look at them.
    """
    chosen = resolve_network(role, choice, space, auto)
    module = _network_module(role, chosen.name)
    config = module.Config(**chosen.options)
    if space.maps and role != "denoiser":
        raise RequestError(f"a {role} has no place for data.maps: of models, those that denoise look at them")
    built: nn.Module = module.Network(config, space, **sizes)
    return built


def _network_module(role: str, name: str) -> ModuleType:
    known = _modules(f"nn/{role}")
    if name not in known:
        raise RequestError(f"no {role} network '{name}'{nearest(name, known)}")
    return importlib.import_module(known[name])
