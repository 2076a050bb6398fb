"""The training doctor: rules that read a run's journal and say what is wrong, how sure that is, and what to change.

A rule is a file of this folder with ``examine(history) -> list[Finding]``, found by its name. Rules know values and
vital signs by their names, never families of models: a rule that does not apply finds nothing.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from reverie.core.run import Run
from reverie.training.doctor.finding import Finding
from reverie.training.doctor.history import YOUNG, History, read_history

OWN = ("__init__", "finding", "history")


def diagnose(run: str | Path | Run) -> list[Finding]:
    """What the rules find in a run's journal, faults before advice, the surest first."""
    return examine(read_history(run if isinstance(run, Run) else Run(run)))


def examine(history: History) -> list[Finding]:
    """What the rules find in a history."""
    names = sorted(file.stem for file in Path(__file__).parent.glob("*.py") if file.stem not in OWN)
    found = [finding for name in names for finding in import_module(f"{__name__}.{name}").examine(history)]
    return sorted(found, key=lambda finding: (finding.kind != "fault", -finding.sure))


def verdict(history: History) -> str:
    """What is told of a training: what the rules find, a line each; that they find nothing, or that it is too early."""
    found = [str(finding) for finding in examine(history)]
    if not found and history.young:
        found = [f"{history.rounds} rounds: too few to judge ({YOUNG} at least)"]
    return "\n".join(found) or "no fault found in the journal's values and checkups"


__all__ = ["Finding", "History", "diagnose", "examine", "verdict"]
