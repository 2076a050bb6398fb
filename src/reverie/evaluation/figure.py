"""A measured number with what one needs to read it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple


class Estimate(NamedTuple):
    """A value and its 95 % interval; ``low`` and ``high`` are None where nothing is known of it."""

    value: float
    low: float | None = None
    high: float | None = None

    def scaled(self, factor: float) -> Estimate:
        """The estimate of ``factor`` times the value, ``factor`` positive."""
        return Estimate(*(None if v is None else factor * v for v in self))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Figure:
    """A measured number.

    Arguments:
        title: what it is called, in the field's words.
        estimate: the number and its 95 % interval.
        meaning: what it says, in a sentence that needs no paper.
        metric: the file in ``reverie.evaluation`` that defines it and cites its papers; empty where there is none.
        better: which way is better; empty where neither is.
        unit: ``share`` is shown in percent.
        real: its floor: the same between real rows and real rows at the same counts, what a perfect model reaches.
        rows: how many samples it is of.
        recipe: all that another figure must share to be compared with this one; see ``Subject.recipe``.
        note: how it was measured.
    """

    title: str
    estimate: Estimate
    meaning: str
    metric: str = ""
    better: Literal["lower", "higher", ""] = ""
    unit: str = ""
    real: Estimate | None = None
    rows: int | None = None
    recipe: str = ""
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """The figure as JSON holds it: ``value``, ``low`` and ``high``, and the same three within ``real``."""
        rest = {name: getattr(self, name) for name in ("meaning", "metric", "better", "unit", "rows", "recipe", "note")}
        real = None if self.real is None or not math.isfinite(self.real.value) else _finite(self.real)
        return {"title": self.title, **_finite(self.estimate), "real": real, **rest}


def _finite(estimate: Estimate) -> dict[str, float | None]:
    """An estimate as JSON holds it: an end of its interval that is no number is none."""
    return {name: v if v is not None and math.isfinite(v) else None for name, v in estimate._asdict().items()}


PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"))


def readable(value: float, unit: str) -> tuple[str, str]:
    """A figure's number and unit as shown: shares in percent, counts in full, the rest in three or four digits."""
    if unit == "share":
        return f"{100 * value:.1f}", "%"
    if unit == "s" and value < 1:
        return f"{1000 * value:.3g}", "ms"
    if unit == "FLOPs" and abs(value) >= 1e6:
        size, letter = next((size, letter) for size, letter in PREFIXES if abs(value) >= size)
        return f"{value / size:.3g}", f"{letter}{unit}"
    if abs(value) >= 1000:
        return f"{value:,.0f}", unit
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}", unit


def interval(figure: Mapping[str, Any]) -> str:
    """A figure's 95 % interval as shown, from its JSON; empty where it has none."""
    if figure["low"] is None or figure["high"] is None:
        return ""
    return " … ".join(readable(figure[end], figure["unit"])[0] for end in ("low", "high"))
