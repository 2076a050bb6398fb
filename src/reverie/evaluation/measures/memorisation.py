"""Are samples new, or copies of training rows?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from reverie.evaluation import pictures
from reverie.evaluation.figure import Estimate, Figure
from reverie.evaluation.memorisation import memorisation, relative_distance
from reverie.evaluation.neighbours import nearest, pixel_blocks
from reverie.evaluation.subject import Subject, shuffled

RANK = 40
NEIGHBOURS = 4  # nearest training rows shown beside a sample
SHOWN = 12  # samples shown with them
ROWS = 512  # samples whose distance to the training rows is measured


def measure(subject: Subject) -> dict[str, Figure]:
    """How near samples come to training rows, in pixels, whether that is chance, and the pictures that show it."""
    dataset = subject.dataset
    if not dataset.space.is_image:
        return {}
    first = subject.drawn.first[:ROWS]
    subject.say("looking for the nearest training rows")
    found = nearest(first.flatten(1), _train(subject), NEIGHBOURS)
    pictures.neighbours(subject.run, first[:SHOWN], dataset.train, found.places[:SHOWN])
    scale = dataset.space.size**0.5  # from a distance to the root mean square difference of a value
    against = f"{len(dataset.train):,} training rows"
    real, tested = None, {}
    relative = relative_distance(found.distance[:, 0], _own(subject, found.places[:, 0]))
    worst = relative.argsort()[:SHOWN]
    pictures.neighbours(subject.run, first[worst], dataset.train, found.places[worst], "neighbours-worst")
    if len(dataset.held_out):
        order = shuffled(len(dataset.held_out))
        held, _ = dataset.held_out.take(np.sort(order[: len(first)]))
        near = nearest(held.flatten(1), _train(subject))
        real = median(near.distance[:, 0] / scale)
        tested = _test(subject, relative, relative_distance(near.distance[:, 0], _own(subject, near.places[:, 0])))
    return {
        "nearest_training_row": Figure(
            "Distance to the nearest training row",
            median(found.distance[:, 0] / scale),
            "The median over samples, a pixel on average, on the scale from -1 to 1. Far below that of real held-out "
            "rows means that training rows are being copied; smooth samples come a little nearer without copying.",
            "neighbours",
            real=real,
            rows=len(first),
            recipe=subject.recipe("median pixel distance", len(first), against),
        ),
        **tested,
    }


def _test(subject: Subject, samples: Tensor, held: Tensor) -> dict[str, Figure]:
    found = memorisation(samples, held)
    verdict = "no sign of copying" if found.p > 0.01 else "nearer than chance allows: look at the likeliest copies"
    return {
        "memorisation": Figure(
            "Nearer to training rows than held-out rows are",
            found.nearer,
            "In how many pairs of a sample and a held-out row the sample lies nearer to a training row, for how dense "
            "the training rows are there; a half where samples are as new as held-out rows, near one for copies.",
            "memorisation",
            "",
            "share",
            real=Estimate(0.5),
            rows=len(samples),
            recipe=subject.recipe("relative pixel distance", len(samples), f"{len(held):,} held-out rows"),
            note=f"p = {found.p:.2g} (Mann and Whitney, one-sided): {verdict}",
        )
    }


def median(values: Tensor) -> Estimate:
    """The median of independent values, and its interval by order statistics, whatever their distribution."""
    ordered = values.double().sort().values
    count = len(ordered)
    reach = 0.98 * count**0.5  # 1.96 standard deviations of a binomial of a half
    low, high = int(max(0, round(count / 2 - reach - 0.5))), int(min(count - 1, round(count / 2 + reach)))
    return Estimate(float(ordered.median()), float(ordered[low]), float(ordered[high]))


def _train(subject: Subject) -> Iterator[Tensor]:
    return pixel_blocks(subject.dataset.train, subject.dataset.space.size)


def _own(subject: Subject, places: Tensor) -> Tensor:
    """How far some training rows are from their own nearest neighbour among the training rows."""
    unique, back = torch.unique(places, return_inverse=True)
    rows, _ = subject.dataset.train.take(unique.numpy())
    return nearest(rows.flatten(1), _train(subject), 2).distance[:, -1][back]
