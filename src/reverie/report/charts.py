"""Charts of several models as inline SVGs: a point or a line each, in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from reverie.report.curves import short, ticks

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 96, 14, 44


class Series(NamedTuple):
    """One model's points, in the colour of that number."""

    name: str
    colour: int
    points: Sequence[tuple[float, float]]


class Axis(NamedTuple):
    """What an axis shows, and which way is better (``lower``, ``higher``, or empty)."""

    title: str
    better: str = ""
    log: bool = False


class _Scale:
    """Values to places along an axis."""

    def __init__(self, values: Sequence[float], axis: Axis, start: float, end: float) -> None:
        self.log = axis.log and min(values) > 0
        shown = [math.log10(v) for v in values] if self.log else list(values)
        margin = 0.08 * (max(shown) - min(shown)) or 0.1 * abs(max(shown)) or 0.5
        self.low, self.high, self.start, self.end = min(shown) - margin, max(shown) + margin, start, end

    def __call__(self, value: float) -> float:
        shown = math.log10(value) if self.log else value
        return self.start + (self.end - self.start) * (shown - self.low) / (self.high - self.low)

    def marks(self) -> list[float]:
        if not self.log:
            return ticks(self.low, self.high, 4)
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        steps = (1, 2, 5) if self.high - self.low < 2.2 else (1,)
        found = [m * 10.0**p for p in powers for m in steps]
        return [v for v in found if self.low <= math.log10(v) <= self.high]


def scatter(series: Sequence[Series], x: Axis, y: Axis, front: Sequence[tuple[float, float]] = ()) -> str:
    """A point for each pair, named once; the Pareto front as a dashed line."""
    return _chart(series, x, y, lines=False, front=sorted(front))


def lines(series: Sequence[Series], x: Axis, y: Axis) -> str:
    """A line for each series, named at its end."""
    return _chart(series, x, y, lines=True, front=())


def _chart(series: Sequence[Series], x: Axis, y: Axis, *, lines: bool, front: Sequence[tuple[float, float]]) -> str:
    points = [point for one in series for point in one.points]
    across = _Scale([p[0] for p in points], x, LEFT, WIDTH - RIGHT)
    down = _Scale([p[1] for p in points], y, HEIGHT - BOTTOM, TOP)
    label = f"{y.title} against {x.title}"
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label, quote=True)}">']
    for mark in down.marks():
        parts.append(
            f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down(mark):.1f}" y2="{down(mark):.1f}"/>'
            f'<text x="{LEFT - 6}" y="{down(mark) + 3.5:.1f}" text-anchor="end">{short(mark)}</text>'
        )
    for mark in across.marks():
        parts.append(
            f'<text x="{across(mark):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{short(mark)}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{_named(x)}</text>')
    turn = f'transform="rotate(-90 12 {(TOP + HEIGHT - BOTTOM) / 2})"'
    parts.append(
        f'<text class="axis" x="12" y="{(TOP + HEIGHT - BOTTOM) / 2}" text-anchor="middle" {turn}>{_named(y)}</text>'
    )
    if len(front) > 1:
        path = "L".join(f"{across(a):.1f} {down(b):.1f}" for a, b in front)
        parts.append(f'<path class="front" d="M{path}"/>')
    ends: list[tuple[float, float, Series]] = []
    for one in series:
        placed = [(across(a), down(b)) for a, b in one.points]
        if not placed:
            continue
        if lines:
            path = "L".join(f"{a:.1f} {b:.1f}" for a, b in placed)
            parts.append(f'<path class="line c{one.colour}" d="M{path}"/>')
        parts += [
            f'<circle class="c{one.colour}" cx="{a:.1f}" cy="{b:.1f}" r="{3 if lines else 5}"/>' for a, b in placed
        ]
        ends.append((*placed[-1], one))
    parts += _names(ends)
    return "".join(parts) + "</svg>"


def _names(ends: list[tuple[float, float, Series]]) -> list[str]:
    """Names beside points, moved apart where they would lie on each other."""
    parts: list[str] = []
    taken: list[tuple[float, float]] = []
    for a, b, one in sorted(ends, key=lambda end: end[1]):
        place = b + 3.5
        while any(abs(place - other) < 12 and abs(a - beside) < 80 for beside, other in taken):
            place += 4
        taken.append((a, place))
        parts.append(f'<text class="name c{one.colour}" x="{a + 8:.1f}" y="{place:.1f}">{escape(one.name)}</text>')
    return parts


def _named(axis: Axis) -> str:
    arrow = {"lower": " (lower is better)", "higher": " (higher is better)"}.get(axis.better, "")
    return escape(axis.title + arrow)
