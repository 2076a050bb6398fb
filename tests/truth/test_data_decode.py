"""Decoding against pixels that are known by construction, and files that are meant to hurt."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from reverie.data.decode import BrokenImageError, decode, quiet, read_header
from reverie.data.transform import Transform, pick_size

RGB_8 = Transform(size=8, channels=3)
GREY_8 = Transform(size=8, channels=1)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_an_image_of_the_right_size_keeps_every_byte():
    pixels = random_image(8, 8)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(pixels)), RGB_8), pixels.transpose(2, 0, 1))


def test_a_crop_without_scaling_takes_the_middle_bytes():
    pixels = random_image(8, 13)
    expected = pixels[:, 2:10].transpose(2, 0, 1)  # (13 - 8) // 2 = 2
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(pixels)), RGB_8), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int):
    upright = random_image(8, 8)
    # How a camera stores each orientation (Exif 2.32, tag 0x0112), as operations on the upright picture.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = encoded(Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    np.testing.assert_array_equal(decode(raw, RGB_8), upright.transpose(2, 0, 1))


@pytest.mark.parametrize("damage", [b"Exif\0\0XX*\0\0\0\0\x08", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\0\x03"])
def test_damaged_exif_does_not_cost_the_image(damage: bytes):
    pixels = random_image(8, 8)
    raw = encoded(Image.fromarray(pixels), exif=damage)
    with quiet():
        np.testing.assert_array_equal(decode(raw, RGB_8), pixels.transpose(2, 0, 1))


@pytest.mark.parametrize(("background", "expected"), [("white", (255, 127, 127)), ("#000080", (128, 0, 64))])
def test_transparency_lies_over_the_background(background: str, expected: tuple[int, int, int]):
    # alpha = 128/255: out = (255, 0, 0) * a + background * (1 - a)
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 128))
    rows = decode(encoded(image), RGB_8.model_copy(update={"background": background}))
    np.testing.assert_allclose(rows[:, 0, 0].astype(int), expected, atol=1)


def test_transparent_palette_and_transparent_grey():
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert decode(encoded(palette), RGB_8)[:, 0, 0].tolist() == [10, 20, 30]
    assert decode(encoded(palette, transparency=1), RGB_8)[:, 0, 0].tolist() == [255, 255, 255]
    grey = Image.new("LA", (8, 8), (100, 0))
    assert decode(encoded(grey), GREY_8)[0, 0, 0] == 255
    key = Image.new("RGB", (8, 8), (1, 2, 3))
    assert decode(encoded(key, transparency=(1, 2, 3)), RGB_8)[:, 0, 0].tolist() == [255, 255, 255]


def test_cmyk_and_one_bit():
    ink = Image.new("CMYK", (8, 8), (255, 0, 0, 0))  # all cyan
    np.testing.assert_allclose(decode(encoded(ink, "JPEG", quality=100), RGB_8)[:, 4, 4], [0, 255, 255], atol=3)
    one = Image.new("1", (8, 8), 1)
    assert decode(encoded(one), GREY_8)[0, 0, 0] == 255


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_cut(kind: str):
    values = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    rows = decode(encoded(Image.fromarray(values), kind), GREY_8)[0]
    np.testing.assert_array_equal(rows, np.rint(values / 257.0).astype(np.uint8))
    assert read_header(encoded(Image.fromarray(values), kind)).is_grey


def test_float_images_in_either_range():
    unit = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    expected = np.rint(unit * 255).astype(np.uint8)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(unit), "TIFF"), GREY_8)[0], expected)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(unit * 255), "TIFF"), GREY_8)[0], expected)
    with pytest.raises(BrokenImageError, match="expected"):
        decode(encoded(Image.fromarray(unit - 0.5), "TIFF"), GREY_8)


def test_grey_is_the_luma_of_rec_601():
    pixels = random_image(8, 8)
    luma = pixels.astype(float) @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(decode(encoded(Image.fromarray(pixels)), GREY_8)[0], luma, atol=1)


def test_downscaling_averages_and_does_not_alias():
    # Stripes one pixel wide: their mean is grey 127.5; a filter without antialiasing would show black or white.
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (240, 120))
    rows = decode(encoded(Image.fromarray(stripes)), Transform(size=16, channels=1))[0]
    np.testing.assert_allclose(rows, 127.5, atol=4)


def test_the_fast_reduction_stays_within_a_grey_value_of_the_exact_filter():
    y, x = np.mgrid[0:512, 0:512] / 512
    smooth = np.rint(127.5 + 60 * np.sin(9 * x + 4 * y) + 60 * np.cos(40 * x * y)).astype(np.uint8)
    exact = np.asarray(Image.fromarray(smooth).resize((64, 64), Image.Resampling.LANCZOS)).astype(int)
    ours = decode(encoded(Image.fromarray(smooth)), Transform(size=64, channels=1))[0].astype(int)
    assert np.abs(ours - exact).max() <= 2
    assert np.abs(ours - exact).mean() < 0.3


def test_a_jpeg_draft_is_close_but_only_when_asked():
    y, x = np.mgrid[0:512, 0:512] / 512
    smooth = np.rint(127.5 + 100 * np.sin(20 * x + 9 * y)).astype(np.uint8)
    raw = encoded(Image.fromarray(smooth), "JPEG", quality=95)
    full = decode(raw, Transform(size=64, channels=1)).astype(int)
    draft = decode(raw, Transform(size=64, channels=1, draft=True)).astype(int)
    assert 0 < np.abs(full - draft).max() < 40


def bomb(side: int) -> bytes:
    """A PNG of a few hundred bytes that claims ``side`` × ``side`` pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [10_000, 100_000])
def test_a_decompression_bomb_is_refused_by_its_header(side: int):
    with quiet(), pytest.raises(BrokenImageError, match="more than"):
        read_header(bomb(side))
    with quiet(), pytest.raises(BrokenImageError, match="more than"):
        decode(bomb(side), RGB_8)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [(b"", "empty file"), (b"not an image at all", "not an image"), (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image")],
)
def test_what_is_no_image_says_so(raw: bytes, reason: str):
    with pytest.raises(BrokenImageError, match=reason):
        decode(raw, RGB_8)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_image_cut_short_is_broken_not_half_grey(kind: str):
    raw = encoded(Image.fromarray(random_image(64, 64)), kind)
    with pytest.raises(BrokenImageError):
        decode(raw[: len(raw) // 2], RGB_8)


def test_auto_size():
    assert pick_size(np.full(10, 28), same=True)[0] == 28
    assert pick_size(np.full(10, 50), same=True)[0] == 32  # 50 cannot be halved twice
    assert pick_size(np.arange(300, 500), same=False)[0] == 64
    assert pick_size(np.full(10, 40), same=False)[0] == 32
