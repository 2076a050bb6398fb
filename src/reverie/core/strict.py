"""Strict configuration records: frozen, and an unknown key is an error that names the nearest known one."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Hashable, Mapping
from typing import Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from reverie.core.errors import RequestError, nearest

SHORT = reprlib.Repr()
"""Values in messages: a few lines of YAML may stand for millions of values."""
SHORT.maxlevel, SHORT.maxstring, SHORT.maxother = 2, 80, 80


class Strict(BaseModel):
    """A frozen record that takes its own keys and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    refused: ClassVar[Mapping[str, str]] = {}
    """Keys that others of its kind take, and why this one does not."""

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, given: Any, info: ValidationInfo) -> Any:
        """``true`` would be taken for 1: a request that something be on would set how much of it."""
        kinds = _kinds(cls.model_fields[str(info.field_name)].annotation)
        if bool in kinds or not {int, float} & kinds:
            return given
        for name, value in given.items() if isinstance(given, Mapping) else [("", given)]:
            if isinstance(value, bool):
                raise ValueError(f"{f'{name}: ' if name else ''}write a number, not {str(value).lower()}")
        return given

    @classmethod
    def read(cls, values: Any, where: str) -> Self:
        """Creates the record from parsed YAML.

        Arguments:
            values: a mapping.
            where: the path of the mapping in the recipe, for messages: ``"model.network"``.

        Raises:
            RequestError: a key is unknown or a value does not fit.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise RequestError(_sentence(cls, error, where)) from None


def _kinds(annotation: Any) -> set[Any]:
    """A type and those that it is made of."""
    return {annotation}.union(*map(_kinds, (arg for arg in get_args(annotation) if isinstance(arg, Hashable))))


def _sentence(cls: type[BaseModel], error: ValidationError, where: str) -> str:
    first = error.errors(include_url=False)[0]
    # Branches of a union show up in the path as "constrained-int" or "literal['auto']": no key of a recipe has those.
    keys = [str(part) for part in first["loc"] if re.fullmatch(r"[A-Za-z0-9_]+", str(part))]
    path, said = ".".join([where, *keys]).strip("."), first["msg"].removeprefix("Value error, ")
    if first["type"] == "tuple_type":
        said = f"write a list, as in [{first.get('input')}]"
    if first["type"] == "extra_forbidden":
        record: Any = cls
        for part in first["loc"][:-1]:
            field = record.model_fields.get(str(part)) if hasattr(record, "model_fields") else None
            kinds = (get_args(field.annotation) or (field.annotation,)) if field else ()  # a record, or one or None
            record = next((kind for kind in kinds if hasattr(kind, "model_fields")), None)
        known, key = getattr(record, "model_fields", {}), str(first["loc"][-1])
        if key in getattr(record, "refused", {}):
            return f"{path} does not fit this model: {record.refused[key]}"
        if record is not None and not known:
            return f"unknown key '{path}': this model has nothing to set there, so leave it out"
        return f"unknown key '{path}'{nearest(key, known)}"
    if not first["loc"] and isinstance(first.get("input"), Mapping):  # of several keys: which, the sentence says
        return f"{where}: {said}" if where else said
    return f"{path} = {SHORT.repr(first.get('input'))}: {said}"
