r"""Under-training: quality was still improving when the budget was spent.

From the quality looked at as training went (``reverie compare`` looks): the improvement of the Fréchet distance over
the last doubling of the time, :math:`1 - d(t) / d(t / 2)`.
"""

from __future__ import annotations

from reverie.training.doctor.finding import Finding
from reverie.training.doctor.history import History

STILL = 0.1


def examine(history: History) -> list[Finding]:
    """Advice where the last doubling improved by more than the threshold."""
    looks = sorted(history.learning, key=lambda look: look["seconds"])
    if len(looks) < 2:
        return []
    last = looks[-1]
    half = min(looks[:-1], key=lambda look: abs(look["seconds"] - last["seconds"] / 2))
    if not 0.3 < half["seconds"] / max(last["seconds"], 1e-9) < 0.8 or half["frechet_distance"] <= 0:
        return []
    better = 1.0 - last["frechet_distance"] / half["frechet_distance"]
    if better < STILL:
        return []
    minutes = last["seconds"] / 60
    sentence = (
        f"quality still improves at {better:.0%} per doubling of the time; {minutes:.1f} more minutes would take the "
        f"Fréchet distance from {last['frechet_distance']:.3g} to about {last['frechet_distance'] * (1 - better):.3g}"
    )
    return [Finding("under-training", "advice", sentence, 0.6, (f"train.time={round(2 * last['seconds'])}s",))]
