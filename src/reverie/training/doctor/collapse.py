r"""Mode collapse: samples that are much more alike than the data are.

At each checkup the mean distance of pairs of samples is held against that of as many training rows, and where samples
were drawn for classes, that of pairs of one class: a picture a class, ever the same, is a collapse as well. Healthy
runs kept 0.8 to 1.2 once they drew anything; below ``LEAST`` most of the data must be missing. While it still grows by
``GROWTH`` from one checkup to the next, the generator is only on its way, until the training is over.

References:
    | Generative Adversarial Networks (Goodfellow et al., 2014), Section 6: the Helvetica scenario
    | https://arxiv.org/abs/1406.2661
"""

from __future__ import annotations

from reverie.training.doctor.finding import Finding
from reverie.training.doctor.history import History

LEAST = 0.4
GROWTH = 1.05
SETTLED = 0.15  # of the budget, before which samples are nothing yet


def examine(history: History) -> list[Finding]:
    """A fault where the last two checkups (or the only one) are below the threshold, and do not grow any more."""
    if history.young or history.fraction < SETTLED:
        return []
    for sign, whose in (("diversity", ""), ("diversity within classes", " of one class")):
        seen = history.signs.get(sign, ())[-2:]
        grows = len(seen) > 1 and seen[-1] >= GROWTH * seen[0]
        if not seen or max(seen) >= LEAST or (grows and history.fraction < 1.0):
            continue
        share = f"{seen[-1]:.2g} times as much as training rows do (at least {LEAST})"
        share += "; that still grew, so try a longer training first" if grows else ""
        change = history.change("train.batch", 2) if "generator" in history.players() else ()
        changes = history.rate("generator", 0.3) + change
        sure = 0.6 if grows else 0.9
        return [Finding("mode collapse", "fault", f"samples{whose} differ from each other {share}", sure, changes)]
    return []
