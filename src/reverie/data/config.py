"""What a recipe says about its data."""

from __future__ import annotations

from typing import Annotated, Literal

from PIL import ImageColor
from pydantic import Field, field_validator

from reverie.core.strict import Strict

Size = Annotated[int, Field(ge=4, le=4096)] | Literal["auto"]


class DataConfig(Strict):
    """Where rows come from and what is done to them.

    Arguments:
        source: a folder, a zip, an IDX file or folder of them, or a built-in name (``digits``, ``emoji``,
            ``emoji:noto``, ``avatars``, ``avatars:smiling``, ``scenes``, ``scenes:200000``, ``stacked-digits``,
            ``ring``, ``grid``, ``moons`` …), or ``hf:`` and a data set of Hugging Face.
        size: height and width in pixels; ``auto`` picks them from the data and says so in ``Dataset.notes``.
        crop: ``center`` takes the largest middle square. ``random`` packs that square an eighth larger and draws
            a new window each time a row is seen; evaluation sees the middle one.
        flip: mirrors left and right at random, anew each time a row is seen.
        turn: turns by a random multiple of 90 degrees, anew each time (textures, microscopy, satellites).
        condition: ``auto`` conditions on class labels where there are any. Labels that merely name a mode (toys,
            ``stacked-digits``) are for counting modes, and need ``label``. ``picture`` turns rows round: a row is then
            its tags, 0 or 1 each, conditioned on the picture.
        tags: under ``condition: picture``, how many of the most common tags a row has, or their names.
        maps: a second picture beside each, on which models are conditioned. Every image source has ``edges``, found in
            its pictures; ``scenes`` has ``layout`` (a channel a shape), ``depth`` and ``pose``, ``emoji`` has ``line``
            (its line art). They are cropped, flipped and turned as their pictures are.
        background: what lies under transparent pixels: a colour name or ``#rrggbb``.
        channels: 1 grey, 3 colour; ``auto`` is 1 where every image is grey.
        binarize: ``once`` draws each pixel once, white with the probability of its intensity, the same for ever.
        held_out: the share of rows kept from training, chosen by content. Sources with a test part use that.
        jpeg_draft: decodes JPEG at a reduced scale: five times as fast, other pixels. Never for evaluation.
    """

    source: str = "digits"
    size: Size = "auto"
    crop: Literal["center", "random"] = "center"
    flip: bool = False
    turn: bool = False
    condition: Literal["auto", "none", "label", "picture"] = "auto"
    tags: Annotated[int, Field(ge=1, le=10_000)] | tuple[str, ...] = 100
    maps: str = "none"
    background: str = "white"
    channels: Literal["auto", 1, 3] = "auto"
    binarize: Literal["none", "once"] = "none"
    held_out: float = Field(default=0.1, ge=0.0, lt=1.0)
    jpeg_draft: bool = False

    @field_validator("background")
    @classmethod
    def _is_colour(cls, value: str) -> str:
        ImageColor.getrgb(value)  # its ValueError names the colour
        return value
