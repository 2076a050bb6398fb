"""What the doctor found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a training, or that would make it better.

    Arguments:
        name: what it is called, in the field's words.
        kind: a ``fault``, or ``advice``.
        seen: the figure that was seen and the threshold it is beyond, in a sentence.
        sure: how sure this is, within 0 to 1.
        change: what to change, as settings that can be pasted behind ``reverie train``.
    """

    name: str
    kind: Literal["fault", "advice"]
    seen: str
    sure: float
    change: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line: name, what was seen, what to change."""
        change = f" Try {' '.join(self.change)}" if self.change else ""
        return f"{self.name} ({self.kind}, {self.sure:.0%} sure): {self.seen}.{change}"

    def to_json(self) -> dict[str, Any]:
        """The finding as JSON holds it."""
        return {**asdict(self), "change": list(self.change)}
