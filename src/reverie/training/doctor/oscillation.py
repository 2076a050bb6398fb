r"""Oscillation: two players that circle each other instead of coming closer.

The last half of a player's adversarial loss, smoothed over five lines and without its drift (a polynomial: learning may
turn once or twice), is held against the noise of single lines; it swings where it is several times as large and crosses
its middle again and again. Healthy runs came to 2.8, those made to swing to 4.7 and more.

References:
    | The Numerics of GANs (Mescheder, Nowozin and Geiger, 2017)
    | https://arxiv.org/abs/1705.10461
"""

from __future__ import annotations

import numpy as np

from reverie.training.doctor.finding import Finding
from reverie.training.doctor.history import History

SPAN = 5
LINES = 60  # of the journal, before which nothing is said
SWING = 3.0
CROSSINGS = 10
DRIFT = 8  # the polynomial's degree


def examine(history: History) -> list[Finding]:
    """A fault for a game of two whose losses swing."""
    if len(history.players()) < 2:
        return []
    found = []
    for player in history.players():
        values = np.asarray(history.values.get(f"{player}/adversarial", ()))
        if len(values) < LINES:
            continue
        swing, crossings = swinging(values[len(values) // 2 :])
        if swing > SWING and crossings >= CROSSINGS:
            sentence = f"the {player}'s loss swings {swing:.1f} times as far as its noise (at most {SWING:g})"
            change = history.rate("discriminator", 0.5) + history.rate("generator", 0.5)
            found.append(Finding("oscillation", "fault", sentence, 0.6, change))
    return found[:1]  # one swing moves both players


def swinging(values: np.ndarray) -> tuple[float, int]:
    """How far smoothed values swing about their drift, in units of the noise of a smoothed value; and how often."""
    noise = np.std(np.diff(values)) / 2**0.5 / SPAN**0.5
    smooth = np.convolve(values, np.full(SPAN, 1 / SPAN), mode="valid")
    x = np.linspace(-1, 1, len(smooth))
    rest = smooth - np.polynomial.chebyshev.chebval(x, np.polynomial.chebyshev.chebfit(x, smooth, DRIFT))
    crossings = int((np.diff(np.sign(rest)) != 0).sum())
    return float(rest.std() / max(noise, 1e-12)), crossings
