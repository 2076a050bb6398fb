"""Bytes at the edges, floats in [-1, 1] inside: conversion, grids and PNG files."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from reverie.core.files import write_atomically


def from_bytes(pixels: Tensor) -> Tensor:
    """uint8 0…255 to float32 in [-1, 1]; ``to_bytes`` takes it back exactly."""
    return pixels.float().div_(127.5).sub_(1.0)


def to_bytes(x: Tensor) -> Tensor:
    """Floats in [-1, 1] to the nearest uint8; values outside are clamped."""
    return x.float().add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def to_pillow(pixels: Tensor) -> Image.Image:
    """One image ``[C, H, W]`` of bytes, C = 1 or 3, as a Pillow image."""
    array = pixels.cpu().numpy()
    return Image.fromarray(array[0] if array.shape[0] == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))


def grid(pixels: Tensor, columns: int | None = None, gap: int = 2, background: int = 255) -> Tensor:
    """Lays images out row by row.

    Arguments:
        pixels: bytes ``[B, C, H, W]``.
        columns: images a row; about a square where None.
        gap: pixels between images.
        background: the grey value of gaps and of empty places.

    Returns:
        One image of bytes ``[C, H', W']``.
    """
    count, channels, height, width = pixels.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = pixels.new_full((channels, rows * (height + gap) - gap, columns * (width + gap) - gap), background)
    for i, image in enumerate(pixels):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return sheet


def save_grid(x: Tensor, file: Path, columns: int | None = None, scale: int = 1) -> None:
    """Writes images ``[B, C, H, W]`` in [-1, 1] as one PNG, each pixel ``scale`` pixels wide."""
    sheet = to_pillow(grid(to_bytes(x.cpu()), columns))
    if scale > 1:
        sheet = sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.NEAREST)
    save_png(sheet, file)


def save_png(picture: Image.Image, file: Path) -> None:
    """Writes a picture as a PNG, whole or not at all: what was there stays where the disk is full.

    Raises:
        ReverieError: the disk is full or refuses.
    """
    encoded = io.BytesIO()
    picture.save(encoded, "PNG", optimize=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, encoded.getvalue())
