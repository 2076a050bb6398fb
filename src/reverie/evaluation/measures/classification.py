"""Does the model's own classifier name the class of rows that it never saw?"""

from __future__ import annotations

import numpy as np
import torch

from reverie.core.capabilities import Classifies
from reverie.evaluation.classification import mistaken
from reverie.evaluation.figure import Figure
from reverie.evaluation.intervals import of_share
from reverie.evaluation.subject import Subject, shuffled

RANK = 31
ROWS = 10_000  # held-out rows at most


def measure(subject: Subject) -> dict[str, Figure]:
    """The test error on held-out rows with labels."""
    model, rows = subject.model.view(Classifies), subject.dataset.held_out
    if model is None:
        return {}
    if rows.labels is None or not (rows.labels >= 0).any():
        subject.left_out["Test error"] = "no held-out row has a label"
        return {}
    index = np.sort(shuffled(len(rows))[:ROWS])
    device, wrong = next(subject.model.parameters()).device, []
    for start in range(0, len(index), subject.batch):
        here = index[start : start + subject.batch]
        with torch.no_grad():
            logits = model.class_logits(rows.take(here)[0].to(device)).cpu()
        wrong.append(mistaken(logits, torch.from_numpy(rows.labels[here])))
    found = torch.cat(wrong)
    other = subject.features.classifier
    return {
        "test_error": Figure(
            "Test error",
            of_share(int(found.sum()), len(found)),
            "The share of held-out rows that the model's own classifier gives another class than theirs.",
            "classification",
            "lower",
            "share",
            rows=len(found),
            recipe=subject.recipe("test error", len(found), f"{len(found):,} held-out rows with a label"),
            note="" if other is None else f"a classifier trained with all labels is {other.accuracy:.2%} right",
        )
    }
