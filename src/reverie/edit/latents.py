"""Latents to begin with: drawn by number, so that they can be named again, or those of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from reverie.core.capabilities import Decodes, Encodes
from reverie.core.errors import RequestError
from reverie.core.model import Model
from reverie.core.noise import KeyedNoise, Noise
from reverie.core.sampling import check_finite
from reverie.core.space import Space
from reverie.data.dataset import Rows

Latents = tuple[Tensor, ...]


class Pick(NamedTuple):
    """A latent by name: the one drawn ``number``-th, that of the training row ``number``, or the mean of a group."""

    number: int
    row: bool = False
    group: str = ""


def read_picks(text: str) -> list[Pick]:
    """``"3,5"`` names samples, ``"row:3,row:5"`` training rows, ``"label:3"`` and ``"tag:smiling"`` means of groups.

    Raises:
        RequestError: it cannot be read so.
    """
    picks = []
    for part in text.split(","):
        kind, _, group = part.strip().partition(":")
        if kind in ("label", "tag") and group:
            picks.append(Pick(0, group=f"{kind}:{group.strip()}"))
            continue
        name, _, number = part.strip().rpartition(":")
        if name not in ("", "row") or not number.isdecimal():
            raise RequestError(
                f"'{part.strip()}' names no latent: write numbers of samples, as in 3,5, row:3 for a training row, "
                "label:3 or tag:smiling for the mean of a class or tag"
            )
        picks.append(Pick(int(number), name == "row"))
    return picks


def decoder(model: Model) -> Decodes:
    """The model as one that decodes.

    Raises:
        RequestError: it does not.
    """
    found = model.view(Decodes)
    if found is None:
        raise RequestError("this model has no latents to edit: it draws its samples in another way")
    return found


def drawn(model: Model, numbers: Sequence[int], seed: int) -> Latents:
    """Latents by number, of their priors; each depends on its number alone."""
    ids = torch.tensor(list(numbers), device=_device(model))
    noise = KeyedNoise(seed, ids, "edit")
    return tuple(_of_prior(space, noise.fork(f"latent {k}")) for k, space in enumerate(decoder(model).latents))


def _of_prior(space: Space, noise: Noise) -> Tensor:
    if space.levels:
        return noise.integers(space.levels, *space.shape)
    if space.between is None:
        return noise.normal(*space.shape)
    low, high = space.between
    return low + (high - low) * noise.uniform(*space.shape)


def picked(
    model: Model, picks: Sequence[Pick], seed: int, rows: Rows | None, of_group: Callable[[str], Latents] | None = None
) -> Latents:
    """The latents of picks, ``[N, ...]`` each; ``of_group`` gives those of groups, ``[1, ...]``.

    Raises:
        RequestError: a row is asked of a model without an encoder, or there is no such row.
    """
    found: list[Latents] = []
    for pick in picks:
        if pick.group:
            assert of_group is not None
            found.append(of_group(pick.group))
            continue
        if not pick.row:
            found.append(drawn(model, [pick.number], seed))
            continue
        encodes = model.view(Encodes)
        if encodes is None:
            raise RequestError("this model has no encoder: name samples by number instead of rows")
        if rows is None or pick.number >= len(rows):
            raise RequestError(f"there is no training row {pick.number}")
        x = rows.take(torch.tensor([pick.number]).numpy())[0].to(_device(model))
        with torch.no_grad():
            found.append(encodes.encode(x))
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


def decoded(model: Model, z: Latents, block: int = 64) -> Tensor:
    """Rows of latents, on the CPU, clamped to [-1, 1] where they are images.

    Raises:
        ReverieError: they are not finite.
    """
    decodes = decoder(model)
    with torch.no_grad():
        parts = [decodes.decode(tuple(p[i : i + block] for p in z)).float().cpu() for i in range(0, len(z[0]), block)]
    x = torch.cat(parts)
    check_finite(x, "images" if model.space.is_image else "points")
    return x.clamp(-1.0, 1.0) if model.space.is_image else x


def _device(model: Model) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))
