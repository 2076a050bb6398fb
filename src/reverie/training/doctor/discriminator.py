r"""A discriminator that is too strong to teach, or too weak to.

Too strong: its loss is next to nothing for good, and hardly a pair of a real and a generated row is confused; what the
generator is told then hardly changes. Healthy runs told up to all pairs apart, but kept losses of 0.04 and more.
Too weak: from beginning to end it never told pairs apart clearly better than chance.

References:
    | Towards Principled Methods for Training Generative Adversarial Networks (Arjovsky and Bottou, 2017), Section 2
    | https://arxiv.org/abs/1701.04862
"""

from __future__ import annotations

from collections.abc import Sequence

from reverie.training.doctor.finding import Finding
from reverie.training.doctor.history import History

LEAST_LOSS = 0.005
LEARNT = 0.9  # of its first loss: below, it has learnt something, whatever the pairs say
STRONG, WEAK = 0.99, 0.6
LINES = 10  # of the journal, before which nothing is said


def examine(history: History) -> list[Finding]:
    """Both faults, for a player called discriminator or critic."""
    player = next((p for p in history.players() if p in ("discriminator", "critic")), None)
    if player is None or f"{player}/told apart" not in history.values:
        return []
    told = history.values[f"{player}/told apart"]
    if len(told) < LINES:
        return []
    term = f"{player}/adversarial"
    # Losses that may fall below 0 (a critic's, an f-GAN's) have no floor to lie on.
    positive = term in history.values and min(history.values[term]) >= 0.0
    found = []
    if positive and history.late(f"{player}/told apart") > STRONG and history.late(term) < LEAST_LOSS:
        sentence = (
            f"it tells {history.late(f'{player}/told apart'):.1%} of pairs apart with a loss of "
            f"{history.late(term):.2g} (at least {LEAST_LOSS})"
        )
        change = (*history.rate(player, 0.3), "model.input_noise=0.1")
        found.append(Finding("discriminator too strong", "fault", sentence, 0.8, change))
    learnt = term in history.values and history.late(term) < LEARNT * history.early(term)
    most = max(_smoothed(told))
    if most < WEAK and not learnt:
        sentence = f"it never told more than {most:.0%} of pairs apart ({WEAK:.0%} at least)"
        found.append(Finding("discriminator too weak", "fault", sentence, 0.8, history.rate(player, 3.0)))
    return found


def _smoothed(values: Sequence[float], span: int = 5) -> list[float]:
    return [sum(values[i : i + span]) / span for i in range(len(values) - span + 1)]
