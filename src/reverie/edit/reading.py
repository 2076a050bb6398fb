"""Pictures, masks, boxes and functions that a user names: from files and from a run's held-out rows."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.errors import RequestError
from reverie.core.images import from_bytes
from reverie.core.run import Run
from reverie.core.space import Space
from reverie.data.config import DataConfig
from reverie.data.dataset import open_data
from reverie.data.decode import BrokenImageError, flat, picture, quiet
from reverie.data.transform import Transform, fit, to_array
from reverie.edit.filters import read_box


def read_rows(run: Run, numbers: Sequence[int]) -> Tensor:
    """Held-out rows of the run's data, ``[N, *space.shape]``.

    Raises:
        RequestError: there is no such row.
    """
    return _rows(run, numbers)[0]


def read_maps(run: Run, numbers: Sequence[int]) -> Tensor:
    """The maps of held-out rows of the run's data, ``[N, maps, H, W]``.

    Raises:
        RequestError: there is no such row, or rows have no maps.
    """
    maps = _rows(run, numbers)[1].image
    if maps is None:
        raise RequestError("the model draws from maps, and the run's data have none (data.maps)")
    return maps


def read_pictures(
    files: Sequence[Path], space: Space, background: str = "white", factor: int | None = None
) -> tuple[Tensor, list[str]]:
    """Pictures from files as the model's images, ``[N, *space.shape]``, and what was done to them.

    The middle square is taken, and resized; transparency is laid on a colour, 16 bits become 8, and pictures are turned
    as their EXIF orientation says. Pixels of a small picture become squares.

    Arguments:
        files: the pictures.
        space: of the model.
        background: the colour under transparent pixels: that of the training, ``data.background``.
        factor: how many times larger a small picture is to become; None where it does not matter.

    Raises:
        RequestError: a file is no picture, or a small one does not become the model's size.
    """
    channels, height, width = space.shape
    found, notes = [], []
    for file in files:
        image = _opened(file)
        whole = image.width == image.height and height % image.width == 0
        done = []
        if image.size != (width, height):
            squares = f"each of its pixels a square of {height // image.width}x{height // image.width}"
            done.append(squares if whole else f"its middle square resized to {width}x{height}")
        if factor and width % factor == 0 == height % factor and min(image.size) > width // factor:
            done.append(f"as large as what comes of it: it is made {width // factor}x{height // factor} first")
        if done:
            notes.append(f"{file.name}: {image.width}x{image.height}, {', '.join(done)}")
        image = _opaque(image, file, Transform(size=height, channels=channels, background=background))
        if whole and factor and image.width < width and image.width * factor != width:
            raise RequestError(
                f"{file.name}: {factor} times {image.width}x{image.height} is not the model's {width}x{height}; "
                f"take factor={width // image.width}"
            )
        # Squares, not curves through the small pixels: their means are the small picture again.
        image = image.resize((width, height), Image.Resampling.NEAREST) if whole else fit(image, height)
        found.append(from_bytes(torch.from_numpy(to_array(image).copy())))
    return torch.stack(found), notes


def read_mask(file: Path, space: Space) -> Tensor:
    """What is known, bool ``[H, W]``: where a mask is black or transparent. White is drawn anew.

    Raises:
        RequestError: it is no picture, or of another size than the model's images.
    """
    image = _opaque(_opened(file), file, Transform(size=space.shape[1], channels=1, background="black"))
    if image.size != space.shape[:0:-1]:
        raise RequestError(
            f"{file.name} is {image.width}x{image.height}; a mask has the size of the model's images, "
            f"{space.shape[2]}x{space.shape[1]}"
        )
    return torch.from_numpy(np.asarray(image) < 128)


def outside(box: str, space: Space) -> Tensor:
    """What is known around a box ``x0,y0,x1,y1``, bool ``[H, W]``."""
    x_0, y_0, x_1, y_1 = read_box(box, space.shape)
    known = torch.ones(space.shape[1:], dtype=torch.bool)
    known[y_0:y_1, x_0:x_1] = False
    return known


def read_numbers(text: str) -> list[int]:
    """``"0,3,5"``.

    Raises:
        RequestError: it cannot be read so.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise RequestError(f"'{text}' names no rows: write numbers, as in 0,3,5")
    return [int(part) for part in parts]


def read_function(text: str) -> Callable[[Tensor], Tensor]:
    """The function that ``FILE.py:NAME`` names; the file is run.

    Raises:
        RequestError: there is no such file or name, or the file fails.
    """
    place, _, name = text.rpartition(":")
    file = Path(place)
    if file.suffix != ".py":
        raise RequestError(f"'{text}': write FILE.py:NAME, a function of images [B, C, H, W] in a Python file")
    if not file.is_file():
        raise RequestError(f"no file '{file}'")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        found: Callable[[Tensor], Tensor] = getattr(module, name)
    except Exception as error:
        raise RequestError(f"{text}: {type(error).__name__}: {error}") from None
    return found


def _rows(run: Run, numbers: Sequence[int]) -> tuple[Tensor, Condition]:
    data = open_data(DataConfig.read(run.recipe.data, "data"))
    rows = data.held_out if len(data.held_out) else data.train
    if max(numbers) >= len(rows):
        raise RequestError(f"there is no row {max(numbers)}; rows are 0 to {len(rows) - 1}")
    return rows.take(np.array(numbers, dtype=np.int64))


def _opened(file: Path) -> Image.Image:
    # As data are read: not by Pillow's own Image.open, which starts other programs for some formats.
    try:
        with quiet(), open(file, "rb") as stream:
            return picture(stream)
    except OSError as error:
        raise RequestError(f"cannot read {file}: {error.strerror or error}") from None
    except BrokenImageError as error:
        raise RequestError(f"cannot read {file}: {error}") from None


def _opaque(image: Image.Image, file: Path, transform: Transform) -> Image.Image:
    try:
        return flat(image, transform)
    except BrokenImageError as error:
        raise RequestError(f"cannot read {file}: {error}") from None
