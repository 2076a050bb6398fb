"""Points of a plane as a picture: those that a tool drew, in colours, over those of the data, in grey."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from reverie.core.images import from_bytes

SIDE, MARGIN, DOT = 640, 40, 5  # pixels


def reach(*points: Tensor) -> float:
    """Half the width of a square about the origin that has all points ``[..., 2]`` in it."""
    return max(float(p.abs().max()) for p in points if p.numel()) or 1.0


def places(points: Tensor, limit: float) -> list[tuple[float, float]]:
    """Where points ``[N, 2]`` lie in the picture: x to the right, y upwards, the square of ``limit`` within margins."""
    across = (SIDE / 2 + (SIDE / 2 - MARGIN) * points[:, 0].double() / limit).tolist()
    down = (SIDE / 2 - (SIDE / 2 - MARGIN) * points[:, 1].double() / limit).tolist()
    return list(zip(across, down, strict=True))


def scatter(
    groups: Tensor, behind: Tensor, *, joined: bool = False, names: Sequence[str] = (), limit: float | None = None
) -> Tensor:
    """A picture ``[1, 3, SIDE, SIDE]`` in [-1, 1].

    Arguments:
        groups: points ``[S, L, 2]``, each group in a colour of its own.
        behind: points of the data ``[M, 2]``.
        joined: whether a line goes through each group.
        names: of single points, group by group; none are written where there are none.
        limit: half the width of what is shown; all of it where None.
    """
    groups, limit = groups.float().cpu(), limit or reach(groups, behind)
    page = Image.new("RGB", (SIDE, SIDE), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=14)
    for x, y in places(behind, limit):
        pen.ellipse((x - 1, y - 1, x + 1, y + 1), fill=(205, 205, 205))
    written = iter(names)
    for k, group in enumerate(groups):
        red, green, blue = (int(255 * part) for part in colorsys.hsv_to_rgb(k / len(groups), 0.9, 0.75))
        at = places(group, limit)
        if joined:
            pen.line(at, fill=(red, green, blue), width=2)
        for x, y in at:
            pen.ellipse((x - DOT, y - DOT, x + DOT, y + DOT), fill=(red, green, blue))
            name = next(written, "")
            if name:
                pen.text((x + DOT + 2, y - 2 * DOT - 4), name, "black", font)
    pixels = torch.frombuffer(bytearray(page.tobytes()), dtype=torch.uint8).view(SIDE, SIDE, 3)
    return from_bytes(pixels.permute(2, 0, 1))[None]
