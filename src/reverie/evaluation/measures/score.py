"""Are samples of clear classes, and of all of them?"""

from __future__ import annotations

from reverie.evaluation.figure import Estimate, Figure
from reverie.evaluation.inception_score import inception_score
from reverie.evaluation.modes import divergence_of_shares
from reverie.evaluation.subject import Subject

RANK = 35


def measure(subject: Subject) -> dict[str, Figure]:
    """The Inception Score, the classes that samples reach, and how evenly."""
    classifier = subject.features.classifier
    if classifier is None:
        return {}
    drawn, real = subject.drawn, subject.reference
    assert drawn.guesses is not None
    stood = classifier.logits(real.stand_in)
    classes = stood.shape[1]
    counts, floor = (guesses.bincount(minlength=classes) for guesses in (drawn.guesses, stood.argmax(1)))
    # Shares as the classifier sees them: its own mistakes are then on both sides.
    shares = classifier.logits(real.rows).argmax(1).bincount(minlength=classes).double() + 0.5
    shares = shares / shares.sum()
    against = f"a classifier {classifier.accuracy:.2%} right"
    few = len(real.stand_in) < drawn.count
    note = f"the real figure is of {len(real.stand_in):,} rows" if few else ""
    return {
        "inception_score": Figure(
            "Inception Score, by this classifier",
            inception_score(classifier.logits(drawn.features)),
            f"Up to {classes}: high where each sample is surely of one class and all classes come up. It cannot see "
            "copies, nor what a sample looks like beyond its class.",
            "inception_score",
            "higher",
            real=inception_score(stood),
            rows=len(drawn.features),
            recipe=subject.recipe("inception score", len(drawn.features), against),
            note=note,
        ),
        "classes_reached": Figure(
            "Classes reached",
            Estimate(float((counts > 0).sum())),
            f"How many of the {classes} classes have a sample.",
            "modes",
            "higher",
            real=Estimate(float((floor > 0).sum())),
            rows=drawn.count,
            recipe=subject.recipe("classes", drawn.count, against),
        ),
        "class_divergence": Figure(
            "Divergence of the classes",
            divergence_of_shares(counts, shares),
            "How far the classes' shares among samples lie from those among the data, in nats; a model without labels "
            "may prefer some of them.",
            "modes",
            "lower",
            "nats",
            real=divergence_of_shares(floor, shares) if int(floor.sum()) else None,
            rows=drawn.count,
            recipe=subject.recipe("class KL", drawn.count, against),
            note=note,
        ),
    }
