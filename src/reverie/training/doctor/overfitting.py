r"""Overfitting: what a model says of rows it has seen and of rows held out drifts apart.

For a likelihood, the gap of the two in nats, as a share of the held-out figure; for a discriminator, the gap of its
scores, as a share of the gap between real and generated rows, :math:`r_v` of the paper.

References:
    | Training Generative Adversarial Networks with Limited Data (Karras et al., 2020), Equation 1
    | https://arxiv.org/abs/2006.06676
"""

from __future__ import annotations

from reverie.training.doctor.finding import Finding
from reverie.training.doctor.history import History

LIKELIHOOD, SCORES = 0.15, 0.5
SETTLED = 0.2


def examine(history: History) -> list[Finding]:
    """A fault for each gap that is beyond its threshold in the last two checkups."""
    found = []
    for sign, most, what in (
        ("likelihood gap", LIKELIHOOD, "training rows are {:.0%} likelier than held-out ones, in nats"),
        ("score gap", SCORES, "held-out rows fall {:.0%} of the way from training rows to samples, by D's scores"),
    ):
        seen = history.signs.get(sign, ())[-2:]
        if len(seen) < 2 or history.fraction < SETTLED or min(seen) <= most:
            continue
        sentence = f"{what.format(seen[-1])} (at most {most:.0%})"
        change = ("data.flip=true",)
        if sign == "score gap" and history.recipe.get("model", {}).get("augment", "") is None:
            change = ("model.augment={}",)
        found.append(Finding("overfitting", "fault", sentence, 0.7, change))
    return found
