"""Encoded images to bytes ``[C, size, size]``, whatever they are: safe formats only, one frame, no surprises."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from reverie.data.transform import Transform, fit, to_array

# Not Pillow's whole list: EPS starts another program, and others are documents rather than images.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "TGA", "AVIF")
SUFFIXES = frozenset(
    (
        *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif"),
        *(".tif", ".tiff", ".pbm", ".pgm", ".ppm", ".pnm", ".tga", ".avif"),
    )
)
MAX_PIXELS = 64 * 2**20  # one decoded image then takes at most 256 MB
MAX_BYTES = 512 * 2**20  # of one encoded image
LARGE = 16 * 2**20  # pixels from which images are decoded one at a time, to bound memory
GREY_MODES = ("1", "L", "LA", "La", "I", "F")

_one_large_image = threading.Lock()


class BrokenImageError(Exception):
    """The image gives no row; the message says why."""


class Header(NamedTuple):
    """What an image's header says."""

    width: int
    height: int
    is_grey: bool
    has_alpha: bool
    format: str


@contextmanager
def quiet() -> Iterator[None]:
    """Silences Pillow's warnings about odd files: they are counted here. Enter it once, outside of threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_header(raw: bytes) -> Header:
    """Reads an image's header, without its pixels.

    Raises:
        BrokenImageError: it is no image, or too large.
    """
    image = _open(io.BytesIO(raw))
    try:
        return Header(*image.size, _is_grey(image), image.has_transparency_data, image.format or "")
    except Exception as error:  # damaged metadata fails in as many ways as there are formats
        raise BrokenImageError(_reason(error)) from None


def decode(raw: bytes, transform: Transform) -> np.ndarray:
    """Decodes one image: orientation, transparency, colour, crop and size.

    Arguments:
        raw: the file's bytes.
        transform: what to make of it.

    Returns:
        uint8 ``[channels, size, size]``.

    Raises:
        BrokenImageError: it is no image, is cut short, or is too large.
    """
    image = _open(io.BytesIO(raw))
    with _one_large_image if image.width * image.height > LARGE else nullcontext():
        try:
            if transform.draft and image.format == "JPEG":
                # Never under the wanted size: the last step of the scaling is still the good filter.
                image.draft(None, (transform.size, transform.size))
            image = upright(image)
            image = flat(image, transform)
            return to_array(fit(image, transform.size))
        except BrokenImageError:
            raise
        except Exception as error:  # decoders fail in as many ways as there are formats
            raise BrokenImageError(_reason(error)) from None


def picture(file: IO[bytes]) -> Image.Image:
    """A whole image from a file, upright, as it is otherwise.

    Raises:
        BrokenImageError: it is no image, is cut short, or is too large.
    """
    image = _open(file)
    try:
        return upright(image)
    except Exception as error:  # as in decode
        raise BrokenImageError(_reason(error)) from None


def _open(file: IO[bytes]) -> Image.Image:
    if not file.read(1):
        raise BrokenImageError("empty file")
    file.seek(0)
    try:
        image = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError:
        raise BrokenImageError(f"more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:
        raise BrokenImageError(_reason(error)) from None
    if image.width * image.height > MAX_PIXELS:
        raise BrokenImageError(f"{image.width} x {image.height}, more than {MAX_PIXELS:,} pixels")
    return image


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    text = " ".join(str(error).split())
    return text[:120] or type(error).__name__


def _is_grey(image: Image.Image) -> bool:
    if image.mode == "P" and image.palette is not None:
        colours = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
        return bool((colours == colours[:, :1]).all())
    return image.mode in GREY_MODES or image.mode.startswith("I;16")


def upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF orientation says; as it is where that cannot be read."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        image.load()  # a damaged EXIF block is no reason to lose the image; damaged pixels raise here
        return image


def flat(image: Image.Image, transform: Transform) -> Image.Image:
    """Opaque 8-bit grey or RGB; of more bits the greatest value is white.

    Raises:
        BrokenImageError: values are out of range.
    """
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    mode = "L" if transform.channels == 1 else "RGB"
    if image.has_transparency_data:
        above = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (*ImageColor.getrgb(transform.background)[:3], 255))
        return Image.alpha_composite(ground, above).convert(mode)
    return image.convert(mode)


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Grey values of more than 8 bits: 16-bit integers, or floats in [0, 1] or [0, 255]."""
    low, high = float(values.min()), float(values.max())
    if not (low >= 0.0 and high <= 65535.0):
        raise BrokenImageError(f"grey values from {low:g} to {high:g}: expected 0 to 65535")
    if values.dtype.kind == "f":
        if high > 255.0:
            raise BrokenImageError(f"float values up to {high:g}: expected [0, 1] or [0, 255]")
        scale = 255.0 if high <= 1.0 else 1.0
    else:
        scale = 1.0 if values.dtype.itemsize > 2 and high <= 255.0 else 255.0 / 65535.0
    return np.rint(values * scale).astype(np.uint8)
