"""Where to compute, and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from reverie.core.errors import RequestError
from reverie.core.space import Space

Precision = Literal["auto", "fp32", "bf16"]


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; ``auto`` is the first of CUDA, Apple's GPU, and the CPU that is there.

    Raises:
        RequestError: there is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError
    except (RuntimeError, AssertionError):
        raise RequestError(f"no device '{name}' here; try --device auto or --device cpu") from None
    return device


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 there: CPUs need its instructions (AVX-512 BF16 or AMX)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def autocast(device: torch.device, precision: Precision, space: Space | None = None) -> AbstractContextManager[object]:
    """The context in which networks run: bf16 autocast, or nothing.

    Arguments:
        device: where.
        precision: ``auto`` is bf16 where that is faster and there are images.
        space: what one row is; None is of images. Coordinates of points that are near 1 and differ by less than 0.004
            to 0.008, as much as the ring's sigma, are one number in bf16.
    """
    images = space is None or space.is_image or bool(space.picture)
    if precision == "bf16" or (precision == "auto" and images and has_fast_bf16(device)):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def seed_generators(device: torch.device, seed: int) -> None:
    """Seeds the generators that computations on a device may draw from, as ``torch.manual_seed`` does.

    That function also turns to kinds of devices that are not there, and formats a stack for each: 1 to 3 ms a call,
    which is a fifth of a small model's step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
