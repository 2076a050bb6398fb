"""Which of the modes that made the data do samples reach, and how cleanly?"""

from __future__ import annotations

import torch
from torch import Tensor

from reverie.data.toys import TOYS, Mixture
from reverie.evaluation.figure import Estimate, Figure
from reverie.evaluation.intervals import of_share
from reverie.evaluation.modes import good_and_reached
from reverie.evaluation.subject import Subject

RANK = 25


def measure(subject: Subject) -> dict[str, Figure]:
    """Modes reached and good samples, of toys that are mixtures of Gaussians."""
    toy = TOYS.get(subject.dataset.config.source)
    if not isinstance(toy, Mixture):
        return {}
    centres = torch.from_numpy(toy.centres)
    found, floor = (good_and_reached(points, centres, toy.sigma) for points in (_points(subject), _real(subject)))
    count, against = len(_points(subject)), f"{len(centres)} Gaussians of sigma {toy.sigma:g}"
    return {
        "good_samples": Figure(
            "Good samples",
            of_share(found.good, count),
            "The share of samples within three sigma of the centre of one of the modes.",
            "modes",
            "higher",
            "share",
            of_share(floor.good, len(_real(subject))),
            count,
            subject.recipe("good samples, 3 sigma", count, against),
        ),
        "modes_reached": Figure(
            "Modes reached",
            Estimate(float(found.reached)),
            f"How many of the {len(centres)} modes have a good sample.",
            "modes",
            "higher",
            real=Estimate(float(floor.reached)),
            rows=count,
            recipe=subject.recipe("modes, 3 sigma", count, against),
        ),
    }


def _points(subject: Subject) -> Tensor:
    return subject.drawn.first


def _real(subject: Subject) -> Tensor:
    return subject.reference.stand_in[: len(_points(subject))]
