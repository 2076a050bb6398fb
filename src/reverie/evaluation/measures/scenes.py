"""Do drawn scenes show what was asked of them?"""

from __future__ import annotations

import numpy as np
import torch

from reverie.core.images import to_bytes
from reverie.data.scene_reader import READABLE, read_labels
from reverie.data.sources.scenes import KIND
from reverie.evaluation.figure import Figure
from reverie.evaluation.intervals import of_share
from reverie.evaluation.subject import Subject, shuffled

RANK = 31


def measure(subject: Subject) -> dict[str, Figure]:
    """Shape and colour of the large object, read from the first samples by rules; in colour and large enough only."""
    dataset = subject.dataset
    if dataset.pool.kind != KIND or dataset.space.shape[0] != 3 or dataset.space.shape[1] < READABLE:
        return {}
    drawn = subject.drawn
    read = torch.from_numpy(read_labels(to_bytes(drawn.first).numpy()))
    index = np.sort(shuffled(len(dataset.held_out))[: len(read)])
    real = torch.from_numpy(read_labels(dataset.held_out.pixels(index)))
    against = "scenes read by rules"
    figures = {
        "scene_shown": Figure(
            "Scenes with a shape",
            of_share(int((read >= 0).sum()), len(read)),
            "The share of samples in which one of the shapes can be made out.",
            better="higher",
            unit="share",
            real=of_share(int((real >= 0).sum()), len(real)),
            rows=len(read),
            recipe=subject.recipe("scene shown", len(read), against),
        )
    }
    labels = drawn.labels[: len(read)]
    if (labels >= 0).all():
        assert dataset.held_out.labels is not None
        known = torch.from_numpy(dataset.held_out.labels[index])
        figures["scene_asked"] = Figure(
            "Shape and colour as asked",
            of_share(int((read == labels).sum()), len(read)),
            "The share of samples whose large object has the shape and the colour that were asked for.",
            better="higher",
            unit="share",
            real=of_share(int((real == known).sum()), len(real)),
            rows=len(read),
            recipe=subject.recipe("scene asked", len(read), against),
        )
    return figures
