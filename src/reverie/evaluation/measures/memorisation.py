"""Are samples new, or copies of training rows?"""

from __future__ import annotations

import numpy as np

from reverie.evaluation import pictures
from reverie.evaluation.figure import Estimate, Figure
from reverie.evaluation.neighbours import nearest, pixel_blocks
from reverie.evaluation.subject import Subject

RANK = 40
NEIGHBOURS = 4  # nearest training rows shown beside a sample
SHOWN = 12  # samples shown with them
ROWS = 512  # samples whose distance to the training rows is measured


def measure(subject: Subject) -> dict[str, Figure]:
    """How near samples come to training rows, in pixels, and the picture that shows it."""
    dataset = subject.dataset
    if not dataset.space.is_image:
        return {}
    first = subject.drawn.first[:ROWS]
    subject.say("looking for the nearest training rows")
    found = nearest(first.flatten(1), pixel_blocks(dataset.train, dataset.space.size), NEIGHBOURS)
    pictures.neighbours(subject.run, first[:SHOWN], dataset.train, found.places[:SHOWN])
    scale = dataset.space.size**0.5  # from a distance to the root mean square difference of a value
    real = None
    if len(dataset.held_out):
        held, _ = dataset.held_out.take(np.arange(min(ROWS, len(dataset.held_out))))
        near = nearest(held.flatten(1), pixel_blocks(dataset.train, dataset.space.size))
        real = Estimate(float(near.distance.median()) / scale)
    return {
        "nearest_training_row": Figure(
            "Distance to the nearest training row",
            Estimate(float(found.distance[:, 0].median()) / scale),
            "The median over samples, a pixel on average, on the scale from -1 to 1. Far below that of real held-out "
            "rows means that training rows are being copied; smooth samples come a little nearer without copying.",
            "neighbours",
            real=real,
            rows=len(first),
            recipe=subject.recipe("median pixel distance", len(first), f"{len(dataset.train):,} training rows"),
        )
    }
