"""The tags that a model gives to pictures, written beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from pydantic import Field
from torch import Tensor

from reverie.core.capabilities import Tags
from reverie.core.errors import RequestError
from reverie.core.images import save_png, to_bytes, to_pillow
from reverie.core.model import Model
from reverie.core.noise import KeyedNoise
from reverie.core.recipe import parse_change
from reverie.core.run import Run
from reverie.core.sampling import check_finite
from reverie.core.space import Space
from reverie.core.strict import Strict
from reverie.data.config import DataConfig
from reverie.data.dataset import open_data
from reverie.data.maps import as_picture
from reverie.edit import reading
from reverie.edit.asked import Asked

SIDE, MARGIN, LINE, WIDTH = 96, 8, 18, 560  # pixels: a picture, what is around it, a line of text and its length
RIGHT, WRONG, PLAIN = (20, 120, 50), (150, 60, 60), (40, 40, 40)


class Settings(Strict):
    """What the tool can be told.

    Arguments:
        top: how many of the most common tags are shown.
        draws: of z for each picture, over which tags are counted.
    """

    top: int = Field(5, ge=1)
    draws: int = Field(100, ge=1, le=100_000)


class Tagged(NamedTuple):
    """A picture's tags.

    Arguments:
        found: the most common ones and how often each was drawn, the most common first.
        known: those it has in the data; None for a picture from a file.
    """

    found: list[tuple[str, float]]
    known: tuple[str, ...] | None


def write_tags(run: Run, model: Model, asked: Asked, out: Path, say: Callable[[str], None]) -> Path:
    """Writes pictures with their tags beside them, and says them; arguments as in ``draw``.

    Raises:
        RequestError: the model draws no tags, its rows are no pictures, or what is asked for does not fit.
        ReverieError: the model broke.
    """
    tags = model.view(Tags)
    if tags is None:
        raise RequestError("this model draws no tags: the tool needs one such as cgan-tags")
    if len(model.space.picture) != 3:
        raise RequestError("tags are written beside images; this model's rows are points")
    settings = Settings.read(dict(map(parse_change, asked.settings)), "")
    names = DataConfig.read(run.recipe.data, "data").tags
    assert not isinstance(names, int)
    x, known, called = _from_files(run, model.space, asked, say) if asked.images else _held_out(run, asked, names)
    place = next(model.parameters()).device
    noise = KeyedNoise(asked.seed, torch.arange(len(x), device=place), "tag")
    with torch.no_grad():
        shares = tags.tag(x.to(place), noise, settings.draws).cpu()
    check_finite(shares, "tags of the pictures")
    found = [Tagged(most_common(row, names, settings.top), k) for row, k in zip(shares, known, strict=True)]
    for name, one in zip(called, found, strict=True):
        right = "" if one.known is None else f"   (in the data: {', '.join(one.known) or 'none'})"
        say(f"{name}: {_listed(one.found)}{right}")
    save_png(sheet(x, found), out)
    return out


def most_common(shares: Tensor, names: Sequence[str], top: int) -> list[tuple[str, float]]:
    """The tags that are drawn most often, and how often; of equal ones those that are more common in the data."""
    first = shares.sort(descending=True, stable=True).indices[:top].tolist()
    return [(names[k], float(shares[k])) for k in first]


def sheet(x: Tensor, found: Sequence[Tagged]) -> Image.Image:
    """Pictures below each other, right of each its tags; green are those that it has, red those that it has not."""
    font, height = ImageFont.load_default(size=13), SIDE + MARGIN
    page = Image.new("RGB", (SIDE + 3 * MARGIN + WIDTH, len(x) * height + MARGIN), "white")
    pen = ImageDraw.Draw(page)
    for i, (pixels, one) in enumerate(zip(to_bytes(as_picture(x)), found, strict=True)):
        left, top = SIDE + 2 * MARGIN, MARGIN + i * height
        page.paste(to_pillow(pixels).resize((SIDE, SIDE), Image.Resampling.NEAREST), (MARGIN, top))
        at = left
        for name, share in one.found:
            text = f"{name} {share:.0%}"
            colour = PLAIN if one.known is None else RIGHT if name in one.known else WRONG
            if at > left and at + pen.textlength(text, font) > left + WIDTH:
                at, top = left, top + LINE
            pen.text((at, top), text, colour, font)
            at += int(pen.textlength(text, font)) + 2 * MARGIN
        if one.known is not None:
            pen.text((left, top + LINE + MARGIN), f"in the data: {', '.join(one.known) or 'none'}", "grey", font)
    return page


Read = tuple[Tensor, Sequence[tuple[str, ...] | None], list[str]]
"""Pictures, the tags that they have where these are known, and what each picture is called."""


def _from_files(run: Run, space: Space, asked: Asked, say: Callable[[str], None]) -> Read:
    if asked.rows is not None:
        raise RequestError("name --image files or --rows of the data, not both")
    x, notes = reading.read_pictures(asked.images, Space(space.picture), run.recipe.data["background"])
    for note in notes:
        say(note)
    return x, [None] * len(x), [file.name for file in asked.images]


def _held_out(run: Run, asked: Asked, names: Sequence[str]) -> Read:
    data = open_data(DataConfig.read(run.recipe.data, "data"))
    rows = data.held_out if len(data.held_out) else data.train
    numbers = reading.read_numbers(asked.rows) if asked.rows else list(range(min(asked.number, len(rows))))
    if max(numbers) >= len(rows):
        raise RequestError(f"there is no row {max(numbers)}; rows are 0 to {len(rows) - 1}")
    tags, condition = rows.take(np.array(numbers, dtype=np.int64))
    assert condition.image is not None
    known = [tuple(names[int(k)] for k in row.nonzero()) for row in tags]
    return condition.image, known, [f"row {number}" for number in numbers]


def _listed(found: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in found)
