r"""Mode collapse: samples that are much more alike than the data are.

At each checkup the mean distance of pairs of samples is held against that of as many training rows. Healthy runs of
all recipes kept 0.8 to 1.2 once they drew anything; below ``LEAST`` most of the data must be missing.

References:
    | Generative Adversarial Networks (Goodfellow et al., 2014), Section 6: the Helvetica scenario
    | https://arxiv.org/abs/1406.2661
"""

from __future__ import annotations

from reverie.training.doctor.finding import Finding
from reverie.training.doctor.history import History

LEAST = 0.4
SETTLED = 0.15  # of the budget, before which samples are nothing yet


def examine(history: History) -> list[Finding]:
    """A fault where the last two checkups (or the only one) are below the threshold."""
    seen = history.signs.get("diversity", ())[-2:]
    if not seen or history.young or history.fraction < SETTLED or max(seen) >= LEAST:
        return []
    sentence = f"samples differ from each other {seen[-1]:.2g} times as much as training rows do (at least {LEAST})"
    change = history.change("train.batch", 2) if "generator" in history.players() else ()
    return [Finding("mode collapse", "fault", sentence, 0.9, history.rate("generator", 0.3) + change)]
