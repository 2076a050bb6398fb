"""Are samples believable, and is all of the data reached?"""

from __future__ import annotations

from reverie.evaluation.coverage import coverage
from reverie.evaluation.figure import Figure
from reverie.evaluation.subject import Subject

RANK = 20
COVERED = 5000  # rows a side at most: all pairs are compared
LEAST = 100  # rows a side, below which five neighbours are no neighbourhood
SENTENCES = {
    "coverage": "The share of held-out rows that have a sample close by: is all of the data reached?",
    "density": "How often samples fall close to held-out rows, against chance; above the real figure: too safe.",
    "precision": "The share of samples that lie among real rows: are they believable?",
    "recall": "The share of held-out rows that lie among samples: is the whole range there?",
}


def measure(subject: Subject) -> dict[str, Figure]:
    """Precision, recall, density and coverage; none with fewer than a hundred rows a side."""
    real = subject.reference
    side = min(subject.count, len(real.held), len(real.rows), COVERED)
    if side < LEAST:
        subject.left_out["Precision, recall, density and coverage"] = f"they need {LEAST} rows a side, not {side}"
        return {}
    found = coverage(real.held[:side], subject.drawn.features[:side])
    best = coverage(real.held[:side], real.rows[:side])
    against = f"{side:,} held-out rows"
    return {
        name: Figure(
            name.capitalize(),
            getattr(found, name),
            meaning,
            "coverage",
            "higher",
            unit="" if name == "density" else "share",
            real=getattr(best, name),
            rows=side,
            recipe=subject.recipe(f"{name} k=5", side, against),
            note=f"{side:,} samples against {against}, k = 5; the real figure is of training rows",
        )
        for name, meaning in SENTENCES.items()
    }
