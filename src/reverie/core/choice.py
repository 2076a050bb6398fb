"""A network chosen by name in a configuration: ``unet``, ``{name: unet, width: 64}``, ``auto``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import model_serializer, model_validator

from reverie.core.space import Space
from reverie.core.strict import Strict


class Choice(Strict):
    """A network's name and options; which one may depend on the kind of data.

    In a recipe it is one of

    - ``unet`` or ``{name: unet, width: 64}``: that network, whatever the data;
    - ``{image: {name: dcgan, width: 64}, points: mlp}``: one for each kind of data;
    - ``auto``, or ``{name: auto, width: 64}``: the model's own choice for the data, with these options.

    Arguments:
        name: the network's file name, hyphens for underscores; ``auto``; empty where ``image`` and ``points`` decide.
        options: the network's own configuration, checked by its ``Config``.
        image: the choice for images.
        points: the choice for points.
    """

    name: str = ""
    options: dict[str, Any] = {}
    image: Choice | None = None
    points: Choice | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, Mapping) and "options" not in value:
            own = {"name", "image", "points"}
            if not own & set(value):
                raise ValueError("a network needs a name, as in {name: unet, width: 64}")
            options = {k: v for k, v in value.items() if k not in own}
            return {**{k: v for k, v in value.items() if k in own}, "options": options}
        return value

    @model_serializer
    def _short(self) -> dict[str, Any]:
        kinds = {"image": self.image, "points": self.points}
        by_kind = {kind: choice.model_dump() for kind, choice in kinds.items() if choice}
        return {**({"name": self.name} if self.name else {}), **by_kind, **self.options}

    def for_space(self, space: Space, auto: Choice) -> Choice:
        """The one network for this kind of data.

        Arguments:
            space: what one row is.
            auto: the model's own choice, taken where this one is ``auto`` or silent.
        """
        if self.name and self.name != "auto":
            return self
        chosen = self.image if space.is_image else self.points
        if chosen is None or chosen.name == "auto":
            chosen = auto.image if space.is_image else auto.points
        assert chosen is not None, "a model's own choice covers images and points"
        return Choice(name=chosen.name, options={**chosen.options, **self.options})


def auto(image: str, points: str = "mlp") -> Choice:
    """A model's own choice of network: one name for images, one for points."""
    return Choice(image=Choice(name=image), points=Choice(name=points))
