"""What does a classifier make of the samples?"""

from __future__ import annotations

import numpy as np
import torch

from reverie.evaluation.figure import Figure
from reverie.evaluation.intervals import of_share
from reverie.evaluation.recognition import SURE
from reverie.evaluation.subject import Subject, shuffled

RANK = 30


def measure(subject: Subject) -> dict[str, Figure]:
    """The share of clear cases, and of those that are what they were asked to be."""
    classifier = subject.features.classifier
    if classifier is None:
        return {}
    drawn, dataset = subject.drawn, subject.dataset
    assert drawn.guesses is not None
    assert drawn.sure is not None
    rows = dataset.held_out if len(dataset.held_out) else dataset.train
    index = shuffled(len(rows))[: min(drawn.count, subject.kept)]
    logits = torch.cat([classifier.logits(block) for block in subject.features.of_rows(rows, np.sort(index))])
    top = logits.softmax(1).max(1)
    against = f"a classifier {classifier.accuracy:.2%} right"
    figures = {
        "confident": Figure(
            "Clear cases",
            of_share(int((drawn.sure >= SURE).sum()), drawn.count),
            f"The share of samples that the classifier is at least {SURE:.0%} sure of.",
            "recognition",
            "higher",
            "share",
            of_share(int((top.values >= SURE).sum()), len(index)),
            drawn.count,
            subject.recipe("confident", drawn.count, against),
        )
    }
    asked = drawn.labels >= 0
    if asked.any():
        assert rows.labels is not None
        labels = torch.from_numpy(rows.labels[np.sort(index)])
        known = labels >= 0
        figures["recognised"] = Figure(
            "Recognised as asked",
            of_share(int((drawn.guesses == drawn.labels)[asked].sum()), int(asked.sum())),
            "The share of samples that the classifier takes for the class they were asked to be.",
            "recognition",
            "higher",
            "share",
            of_share(int((top.indices == labels)[known].sum()), int(known.sum())),
            int(asked.sum()),
            subject.recipe("recognised", int(asked.sum()), against),
        )
    return figures
