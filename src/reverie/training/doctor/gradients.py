r"""Gradients that vanish or explode, player by player.

The norm of a player's whole gradient is held against its own past. In healthy runs its late median was a fiftieth to
six times its early one, and no line of the second half more than twice the median of all. Gradients
that the optimiser cuts are taken as it takes them: no step is too long then, however large they were.

References:
    | On the difficulty of training recurrent neural networks (Pascanu, Mikolov and Bengio, 2013)
    | https://arxiv.org/abs/1211.5063
"""

from __future__ import annotations

import math
import statistics

from reverie.training.doctor.finding import Finding
from reverie.training.doctor.history import History, first_tenth, last_fifth

VANISHED = 1e-3
EXPLODED = 50.0
LINES = 10  # of the journal, before which nothing is said


def examine(history: History) -> list[Finding]:
    """Both faults, for each player."""
    found = []
    for player in history.players():
        cut = _clip(history, player)
        norms = [min(norm, cut) for norm in history.values.get(f"{player}/gradient", ())]
        if len(norms) < LINES:
            continue
        early, late = first_tenth(norms), last_fifth(norms)
        # A fall or a rise may be over before the first tenth is.
        highest, lowest = max(norms[0], early), min(norms[0], early)
        if late < VANISHED * highest or late == 0.0:
            sentence = f"the {player}'s gradient fell from {highest:.2g} to {late:.2g} (a thousandth)"
            found.append(Finding("vanishing gradient", "fault", sentence, 0.8, history.rate(player, 0.1)))
        peak, usual = max(norms[len(norms) // 2 :]), statistics.median(norms)
        # A game's gradients may grow a thousandfold from those of its first step, and still be healthy.
        limits = (EXPLODED * usual, EXPLODED * early, 1e4 * lowest)
        over = (value > max(limit, 1e-12) for value, limit in zip((peak, late, late), limits, strict=True))
        if cut == math.inf and peak > highest and any(over):
            usual = min(usual, lowest)
            sentence = f"the {player}'s gradient rose from {usual:.2g} to {peak:.2g} ({EXPLODED:g} times)"
            clip = (f"model.{player}_optimizer.clip={max(usual, 1e-3):.2g}",) if _has_own(history, player) else ()
            found.append(Finding("exploding gradient", "fault", sentence, 0.8, history.rate(player, 0.3) + clip))
    return found


def _clip(history: History, player: str) -> float:
    own = history.setting(f"model.{player}_optimizer.clip")
    return float(own or history.setting("model.optimizer.clip") or math.inf)


def _has_own(history: History, player: str) -> bool:
    return f"{player}_optimizer" in history.recipe.get("model", {})
