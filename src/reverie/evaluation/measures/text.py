"""Do samples agree with the words they were asked for?"""

from __future__ import annotations

import numpy as np
import torch

from reverie.evaluation.figure import Figure
from reverie.evaluation.subject import Subject, shuffled
from reverie.evaluation.text import agreement

RANK = 32
PROMPT = "a picture of {}"


def measure(subject: Subject) -> dict[str, Figure]:
    """The CLIP score of samples and the names of their classes, where there is an encoder of both."""
    texts, drawn, dataset = subject.features.texts, subject.drawn, subject.dataset
    labels = drawn.labels[: len(drawn.features)]
    if texts is None or not dataset.classes or not (labels >= 0).any():
        return {}
    words = texts([PROMPT.format(name) for name in dataset.classes])
    rows = dataset.held_out if len(dataset.held_out) else dataset.train
    assert rows.labels is not None
    index = np.sort(shuffled(len(rows))[: len(labels)])
    real = torch.cat(list(subject.features.of_rows(rows, index)))
    return {
        "text_agreement": Figure(
            "Agreement with the text of the label",
            agreement(drawn.features, words, labels),
            f"How near a sample lies to the words '{PROMPT.format('…')}', of 100, for the encoder of both.",
            "text",
            "higher",
            real=agreement(real, words, torch.from_numpy(rows.labels[index])),
            rows=int((labels >= 0).sum()),
            recipe=subject.recipe("text agreement", len(labels), f"the prompt '{PROMPT}'"),
        )
    }
