"""A path chosen by name in a configuration: ``straight``, ``{name: cosine-betas, steps: 100}``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, TypeAdapter, ValidationError

from reverie.core.capabilities import Path
from reverie.core.errors import RequestError, nearest
from reverie.maths import interpolants, paths


def find_path(choice: str | Mapping[str, Any] | Path) -> Path:
    """The path of a name, or of a name and options, as in ``{name: cosine-betas, steps: 100}``; a path is itself.

    Raises:
        RequestError: there is none, or an option is unknown or does not fit.
    """
    if not isinstance(choice, str | Mapping):
        return choice
    options = {"name": choice} if isinstance(choice, str) else dict(choice)
    if "name" not in options:
        raise RequestError("name the path beside its options, as in path={name: edm, largest: 20}")
    name, known = str(options.pop("name")), _named()
    if name not in known:
        raise RequestError(f"no path '{name}'{nearest(name, known)}")
    own = list(inspect.signature(known[name]).parameters)
    for option in options:
        if option not in own:
            raise RequestError(f"unknown key 'path.{option}'{nearest(option, own)}")
    try:
        path: Path = TypeAdapter(known[name]).validate_python(options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RequestError(f"path.{first['loc'][0]} = {first['input']!r}: {first['msg']}") from None
    return path


def written(path: Path) -> dict[str, Any]:
    """A path as a recipe says it, with all its options: what ``find_path`` takes back."""
    (name,) = (name for name, known in _named().items() if type(path) is known)
    return {"name": name, **asdict(path)}  # type: ignore[call-overload]  # every path is a dataclass


PathChoice = Annotated[Path, PlainValidator(find_path), PlainSerializer(written)]
"""The type of a field that chooses a path."""

OtherPath = Annotated[
    Path | None,
    PlainValidator(lambda choice: None if choice is None else find_path(choice)),
    PlainSerializer(lambda path: None if path is None else written(path)),
]
"""The type of a field that may choose another path than the model's own; None is that one."""


def _named() -> dict[str, Any]:
    """Every class of ``paths`` and ``interpolants`` by name: in lower case, with hyphens."""
    return {
        re.sub(r"(?<=[a-z])(?=[A-Z])", "-", key).lower(): value
        for module in (paths, interpolants)
        for key, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__
    }
