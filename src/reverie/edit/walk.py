"""A walk through the latents: a closed way over a few of them, as an animation."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from reverie.core.errors import RequestError
from reverie.core.files import write_atomically
from reverie.core.images import grid, to_bytes, to_pillow
from reverie.core.model import Model
from reverie.edit.between import circle
from reverie.edit.latents import decoded, drawn

KINDS = (".gif", ".webp")


def walk(model: Model, stops: int = 6, steps: int = 12, walkers: int = 9, seed: int = 0) -> list[Tensor]:
    """Frames of several walks at once, from stop to stop on great circles and back to the first.

    Arguments:
        model: one that decodes.
        stops: latents drawn for each walk.
        steps: frames from one stop to the next.
        walkers: walks side by side.
        seed: of the stops.

    Returns:
        ``stops * steps`` frames, ``[walkers, *space.shape]`` each. A discrete latent stays as it is.

    Raises:
        RequestError: a number is too small.
    """
    if stops < 2 or steps < 1 or walkers < 1:
        raise RequestError("a walk needs at least 2 stops, a step between them, and somebody who walks")
    z = drawn(model, range(walkers * stops), seed)
    x = decoded(model, tuple(way(part, walkers, stops, steps) for part in z))
    return list(x.view(stops * steps, walkers, *x.shape[1:]))


def way(z: Tensor, walkers: int, stops: int, steps: int) -> Tensor:
    """Latents ``[walkers * stops, ...]`` and what lies between them, frame by frame: ``[frames * walkers, ...]``."""
    at = z.view(walkers, stops, *z.shape[1:])
    if not z.is_floating_point():
        return at[:, 0].repeat(stops * steps, *[1] * (z.ndim - 1))
    t = torch.arange(steps, device=z.device) / steps
    legs = [
        torch.stack([circle(at[w, s], at[w, (s + 1) % stops], t) for w in range(walkers)], dim=1) for s in range(stops)
    ]
    return torch.cat(legs).flatten(0, 1)


def save_animation(frames: list[Tensor], file: Path, scale: int = 1, pause: int = 80) -> None:
    """Writes frames of images ``[B, C, H, W]`` in [-1, 1] as a GIF or WebP that runs for ever.

    Arguments:
        frames: at least one.
        file: its ending says which.
        scale: how many pixels wide each pixel is.
        pause: milliseconds a frame.

    Raises:
        RequestError: the ending is another.
        ReverieError: the disk is full or refuses.
    """
    if file.suffix.lower() not in KINDS:
        raise RequestError(f"{file.name}: an animation is a {' or a '.join(KINDS)} file")
    sheets = [to_pillow(grid(to_bytes(frame))) for frame in frames]
    sheets = [s.resize((s.width * scale, s.height * scale), Image.Resampling.NEAREST) for s in sheets]
    encoded, kind = io.BytesIO(), file.suffix[1:].upper()
    sheets[0].save(encoded, kind, save_all=True, append_images=sheets[1:], duration=pause, loop=0)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, encoded.getvalue())
