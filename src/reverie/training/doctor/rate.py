"""A learning rate that is too high, or too low, where one player minimises one loss.

Too high: the loss ends hardly below its start, or well above the least it has been. Too low: it has fallen little, and
steadily, to the end. In a game of two a loss says neither; the other rules look at those. Healthy runs ended at a
tenth to a fifth of their first loss, and within 2 % of the least.
"""

from __future__ import annotations

import itertools
import statistics

from reverie.training.doctor.finding import Finding
from reverie.training.doctor.history import History

LINES = 12  # of the journal, before which nothing is said
UP = 0.25  # of the way back up from the least
NOISE = 6.0  # times that of a tenth's median, below which a rise is none
FALL = 0.2  # of the first loss
STEADY = 0.7  # of the steps from tenth to tenth
FIGURES = ("gradient", "elbo", "bits_per_dim", "update")


def examine(history: History) -> list[Finding]:
    """One of the two faults, for a single player."""
    if len(history.players()) != 1:
        return []
    (player,) = history.players()
    names = [f"{player}/{term}" for term in history.terms(player) if term not in FIGURES]
    rows = list(zip(*(history.values[name] for name in names), strict=False))
    loss = [sum(row) for row in rows]
    if len(loss) < LINES:
        return []
    tenth = max(2, len(loss) // 10)
    blocks = [statistics.median(loss[i : i + tenth]) for i in range(0, len(loss) - tenth + 1, tenth)]
    last, least = blocks[-1], min(blocks)
    start = loss[0]  # of the weights as they were drawn: a rate that is too high blows the loss up on the next lines
    noise = statistics.pstdev([a - b for a, b in itertools.pairwise(loss)]) / (2 * tenth) ** 0.5
    if last >= start or last - least > max(UP * (start - least), NOISE * noise):
        sentence = f"the loss is {last:.3g} at the end, {start:.3g} at the start, and was {least:.3g} at least"
        return [Finding("learning rate too high", "fault", sentence, 0.7, history.rate(player, 0.2))]
    falls = [a > b for a, b in itertools.pairwise(blocks)]
    falling = sum(falls) >= STEADY * len(falls)
    if falling and last > (1.0 - FALL) * start:
        sentence = f"the loss fell steadily, but from {start:.3g} to {last:.3g} only (by less than {FALL:.0%})"
        return [Finding("learning rate too low", "fault", sentence, 0.7, history.rate(player, 10.0))]
    return []
