"""Training curves as small inline SVGs: no script, no fonts, readable in light and dark."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

WIDTH, HEIGHT = 320, 150
LEFT, RIGHT, TOP, BOTTOM = 50, 8, 8, 20
POINTS = 400  # drawn a curve, at most


class Curve(NamedTuple):
    """One value as training went: images seen, and the value there."""

    name: str
    images: list[float]
    values: list[float]


def read_curves(journal: Iterable[dict[str, Any]]) -> list[Curve]:
    """One curve for each value that the journal's log lines hold, in the order of first appearance."""
    curves: dict[str, Curve] = {}
    for event in journal:
        if event.get("event") != "log":
            continue
        for name, value in event.get("values", {}).items():
            if isinstance(value, (int, float)) and math.isfinite(value):
                curve = curves.setdefault(name, Curve(name, [], []))
                curve.images.append(float(event.get("images", 0)))
                curve.values.append(float(value))
    return [curve for curve in curves.values() if len(curve.values) > 1]


def smoothed(values: Sequence[float], span: int) -> list[float]:
    """A running average with bias correction, so that it begins at the first value."""
    keep, total, weight, out = 1 - 1 / max(span, 1), 0.0, 0.0, []
    for value in values:
        total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        out.append(total / weight if weight else value)
    return out


def bounds(values: Sequence[float]) -> tuple[float, float]:
    """The range to show: that of all but the first twentieth, whose fall would flatten the rest."""
    settled = sorted(values[len(values) // 20 :])
    low, high = settled[len(settled) // 100], settled[-1 - len(settled) // 100]
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def ticks(low: float, high: float, count: int = 3) -> list[float]:
    """About ``count`` round numbers between two values."""
    rough = (high - low) / count
    step = 10.0 ** math.floor(math.log10(rough))
    step *= min((m for m in (1, 2, 5, 10) if m * step >= rough), default=10)
    first = math.ceil(low / step)
    return [round(i * step, 12) for i in range(first, math.floor(high / step) + 1)]


def short(value: float) -> str:
    """A number in few characters: 12,300 is 12.3k."""
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.3g}"


def draw(curve: Curve) -> str:
    """The curve as an SVG: faint as logged, strong as averaged over a thirtieth of it."""
    stride = math.ceil(len(curve.values) / POINTS)
    x = curve.images[::stride]
    raw, even = curve.values[::stride], smoothed(curve.values, max(1, len(curve.values) // 30))[::stride]
    low, high = bounds(curve.values)
    last = max(x[-1], 1.0)

    def place(images: float, value: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * images / last
        down = TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)
        return across, min(max(down, -HEIGHT), 2 * HEIGHT)

    def path(values: Sequence[float]) -> str:
        points = (place(i, v) for i, v in zip(x, values, strict=True))
        return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points)

    name = html.escape(curve.name, quote=True)
    clip = "clip-" + "".join(c if c.isalnum() else "-" for c in curve.name)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">',
        f'<clipPath id="{clip}"><rect x="{LEFT}" y="{TOP}" width="{WIDTH - LEFT - RIGHT}" '
        f'height="{HEIGHT - TOP - BOTTOM}"/></clipPath>',
    ]
    for value in ticks(low, high):
        down = place(0, value)[1]
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down:.1f}" y2="{down:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{down + 3.5:.1f}" text-anchor="end">{short(value)}</text>')
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        across = LEFT + (WIDTH - LEFT - RIGHT) * share
        parts.append(f'<text x="{across:.1f}" y="{HEIGHT - 4}" text-anchor="{anchor}">{short(last * share)}</text>')
    parts.append(f'<g clip-path="url(#{clip})"><path class="raw" d="{path(raw)}"/>')
    parts.append(f'<path class="even" d="{path(even)}"/></g></svg>')
    return "".join(parts)
