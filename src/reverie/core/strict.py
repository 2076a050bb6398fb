"""Strict configuration records: frozen, and an unknown key is an error that names the nearest known one."""

from __future__ import annotations

import re
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from reverie.core.errors import RequestError, nearest


class Strict(BaseModel):
    """A frozen record that takes its own keys and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

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


def _sentence(cls: type[BaseModel], error: ValidationError, where: str) -> str:
    first = error.errors(include_url=False)[0]
    # Branches of a union show up in the path as "constrained-int" or "literal['auto']": no key of a recipe has those.
    keys = [str(part) for part in first["loc"] if re.fullmatch(r"[A-Za-z0-9_]+", str(part))]
    path = ".".join([where, *keys]).strip(".")
    if first["type"] == "extra_forbidden":
        record: Any = cls
        for part in first["loc"][:-1]:
            field = record.model_fields.get(str(part)) if hasattr(record, "model_fields") else None
            record = field.annotation if field else None
        known = getattr(record, "model_fields", {})
        return f"unknown key '{path}'{nearest(str(first['loc'][-1]), known)}"
    return f"{path} = {first.get('input')!r}: {first['msg'].removeprefix('Value error, ')}"
