"""A training that broke off at a number that is not finite: whose it was."""

from __future__ import annotations

from reverie.training.doctor.finding import Finding
from reverie.training.doctor.history import History


def examine(history: History) -> list[Finding]:
    """A fault where the journal ends so."""
    failed = history.failed
    if failed is None:
        return []
    player, term = failed.get("player", ""), failed.get("term", "")
    what = f"the {player}'s {f'term {term!r}' if term else 'gradient'}"
    sentence = f"{what} was not a finite number at step {failed['round']}"
    change = (*history.rate(player, 0.1), "train.precision=fp32")
    return [Finding("not a number", "fault", sentence, 1.0, change)]
