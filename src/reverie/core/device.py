"""Where to compute, and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from time import perf_counter
from typing import Literal

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import _disable_current_modes

from reverie.core.errors import RequestError
from reverie.core.space import Space

Precision = Literal["auto", "fp32", "bf16"]
CPU = torch.device("cpu")


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


def finest(device: torch.device) -> torch.dtype:
    """The finest floating point numbers there: float64, but on Apple's GPU, which has none, float32."""
    return torch.float32 if device.type == "mps" else torch.float64


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 there; of CPUs it is measured."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type == "cpu":
        return _cpu_is_faster_in_bf16()
    return False


@cache
def _cpu_is_faster_in_bf16() -> bool:
    """Whether a convolution takes a sixth less time: asked once a process, 0.1 s.

    Its instructions (AVX-512 BF16 or AMX) are needed, but do not tell: on a Xeon that has the first and not the second
    a U-Net's step takes 1.6 times as long in bfloat16, and on an EPYC that has the same r3gan's takes 0.7 times.
    """
    if not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return False
    least = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    with _disable_current_modes(), torch.no_grad(), torch.autocast("cpu", enabled=False):
        x, w = torch.ones(16, 64, 16, 16).to(memory_format=torch.channels_last), torch.ones(64, 64, 3, 3)
        for dtype in 6 * tuple(least):  # in turns, so that a busy moment hits both
            image, filters = x.to(dtype), w.to(dtype)
            start = perf_counter()
            F.conv2d(image, filters, padding=1)
            least[dtype] = min(least[dtype], perf_counter() - start)
    return least[torch.bfloat16] < least[torch.float32] / 1.2


def settled(device: torch.device, precision: Precision, space: Space | None = None) -> Literal["fp32", "bf16"]:
    """The precision that is meant there.

    Arguments:
        device: where.
        precision: ``auto`` is bf16 where that is faster and there are images.
        space: what one row is; None is of images. Coordinates of points that are near 1 and differ by less than 0.004
            to 0.008, as much as the ring's sigma, are one number in bf16.
    """
    if precision != "auto":
        return precision
    images = space is None or space.is_image or bool(space.picture)
    return "bf16" if images and has_fast_bf16(device) else "fp32"


def autocast(device: torch.device, precision: Precision, space: Space | None = None) -> AbstractContextManager[object]:
    """The context in which networks run: bf16 autocast, or nothing. Arguments as of ``settled``."""
    if settled(device, precision, space) == "bf16":
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
