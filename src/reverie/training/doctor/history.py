"""A run's journal as the rules read it: values by name, vital signs by name, and the recipe."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reverie.core.run import Run

YOUNG = 50  # rounds


@dataclass(frozen=True)
class History:
    """What happened.

    Arguments:
        values: what the log lines hold by ``player/name``, oldest first.
        signs: what the checkups found, by name, oldest first; see ``training/checkup.py``.
        fraction: how much of the budget was spent.
        rounds: how many were played; None where that is not known.
        seconds: spent in training.
        failed: the event with which the training broke off, if it did.
        learning: quality as training went, where it was looked at: ``seconds`` and ``frechet_distance`` each.
        recipe: resolved; empty where there is none.
    """

    values: Mapping[str, Sequence[float]]
    signs: Mapping[str, Sequence[float]] = field(default_factory=dict)
    fraction: float = 1.0
    rounds: int | None = None
    seconds: float = 0.0
    failed: Mapping[str, Any] | None = None
    learning: Sequence[Mapping[str, float]] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)

    @property
    def young(self) -> bool:
        """Whether so few rounds were played that samples and codes are nothing yet."""
        return self.rounds is not None and self.rounds < YOUNG

    def players(self) -> list[str]:
        """The players' names, in the order of their turns."""
        return list(dict.fromkeys(name.split("/")[0] for name in self.values))

    def terms(self, player: str) -> list[str]:
        """A player's values by their own names."""
        return [name.split("/", 1)[1] for name in self.values if name.split("/")[0] == player]

    def early(self, name: str) -> float:
        """A value's usual size at first."""
        return first_tenth(self.values[name])

    def late(self, name: str) -> float:
        """A value's usual size at last."""
        return last_fifth(self.values[name])

    def setting(self, path: str) -> Any:
        """A value of the recipe; None where there is no such key."""
        found: Any = self.recipe
        for key in path.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    def change(self, path: str, factor: float) -> tuple[str, ...]:
        """A number of the recipe multiplied, as a setting to paste; nothing where there is no such number."""
        found = self.setting(path)
        return (f"{path}={float(found) * factor:.3g}",) if isinstance(found, int | float) and found else ()

    def rate(self, player: str, factor: float) -> tuple[str, ...]:
        """The learning rate of a player multiplied, as a setting to paste."""
        return self.change(f"model.{player}_optimizer.lr", factor) or self.change("model.optimizer.lr", factor)


def first_tenth(values: Sequence[float]) -> float:
    """The median of the first tenth (two at least)."""
    return statistics.median(values[: max(2, len(values) // 10)])


def last_fifth(values: Sequence[float]) -> float:
    """The median of the last fifth (two at least)."""
    return statistics.median(values[-max(2, len(values) // 5) :])


def read_history(run: Run) -> History:
    """Reads a run's journal, and its recipe where it has one."""
    values: dict[str, list[float]] = {}
    signs: dict[str, list[float]] = {}
    fraction, seconds, failed, rounds = 0.0, 0.0, None, 0
    for event in run.journal():
        kind, rounds = event["event"], max(rounds, event["round"])
        failed = event if kind == "failed" else None if kind in ("log", "done") else failed
        fraction, seconds = event.get("fraction", fraction), event.get("seconds", seconds)
        target = values if kind == "log" else signs if kind == "checkup" else None
        if target is not None:
            for name, value in event.get("values", {}).items():
                if isinstance(value, int | float):
                    target.setdefault(name, []).append(float(value))
    looks = list(_looks(run.report / "learning.jsonl"))
    recipe = run.recipe.model_dump(mode="json") if run.recipe_file.is_file() else {}
    return History(values, signs, fraction, rounds, seconds, failed, looks, recipe)


def _looks(file: Path) -> Iterator[dict[str, float]]:
    """Quality as training went; lines that are damaged or half-written are passed over, as a journal's are."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    for line in lines:
        try:
            look = json.loads(line)
        except ValueError:
            continue
        needed = ("seconds", "frechet_distance")
        if isinstance(look, dict) and all(isinstance(look.get(name), int | float) for name in needed):
            yield look
