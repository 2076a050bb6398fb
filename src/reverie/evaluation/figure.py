"""A measured number with what one needs to read it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Figure:
    """A measured number.

    Arguments:
        title: what it is called, in the field's words.
        value: the number.
        meaning: what it says, in a sentence that needs no paper.
        better: which way is better; empty where neither is.
        unit: ``share`` is shown in percent.
        real: the same measured on real held-out rows in place of samples: what a perfect model reaches.
        rows: how many samples it is of.
        note: how it was measured.
    """

    title: str
    value: float
    meaning: str
    better: Literal["lower", "higher", ""] = ""
    unit: str = ""
    real: float | None = None
    rows: int | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """The figure as JSON holds it."""
        return asdict(self)


def readable(value: float, unit: str) -> tuple[str, str]:
    """A figure's number and unit as shown: shares in percent, counts in full, the rest in three or four digits."""
    if unit == "share":
        return f"{100 * value:.1f}", "%"
    if unit == "s" and value < 1:
        return f"{1000 * value:.3g}", "ms"
    if abs(value) >= 1000:
        return f"{value:,.0f}", unit
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}", unit
