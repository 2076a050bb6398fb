"""Do samples follow the maps that they were drawn for?"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from reverie.core.capabilities import Observes
from reverie.core.noise import KeyedNoise
from reverie.data.maps import COMPUTED
from reverie.evaluation.figure import Figure
from reverie.evaluation.intervals import of_mean
from reverie.evaluation.subject import Subject
from reverie.maths.edges import edge_agreement

RANK = 33


def measure(subject: Subject) -> dict[str, Figure]:
    """How well the maps of the first samples agree with those they were drawn for, where maps are made from images."""
    asks, maps_of = subject.asks, _observer(subject)
    if asks is None or maps_of is None or not subject.model.space.is_image:
        return {}
    found = maps_of(subject.drawn.first)
    wanted = asks(torch.arange(len(found))).image
    assert wanted is not None
    if wanted.shape[1] == 1 and bool((wanted.abs() == 1).all()):
        chance = edge_agreement(found, wanted.roll(1, dims=0)).mean()
        return {
            "edge_agreement": Figure(
                "Edges as asked",
                of_mean(edge_agreement(found, wanted)),
                "How well the edges of samples agree with those they were drawn for, pixel by pixel: F1, at most 1.",
                better="higher",
                rows=len(found),
                recipe=subject.recipe("edge agreement", len(found), "maps of held-out rows"),
                note=f"{float(chance):.3g} with the edges of another sample's map",
            )
        }
    error = (found - wanted).square().flatten(1).mean(1).sqrt()
    return {
        "map_error": Figure(
            "Maps as asked",
            of_mean(error),
            "How far what is seen of samples is from what they were drawn for: root mean square, of values in [-1, 1].",
            better="lower",
            rows=len(found),
            recipe=subject.recipe("map error", len(found), "maps of held-out rows"),
        )
    }


def _observer(subject: Subject) -> Callable[[Tensor], Tensor] | None:
    """The way from images to their maps; None where maps are no function of images."""
    observes = subject.model.view(Observes)
    if observes is not None:
        # The same noise as of the maps asked for: the same holes.
        return lambda x: observes.observe(x, KeyedNoise(0, torch.arange(len(x)), "observe"))
    return COMPUTED.get(subject.dataset.config.maps)
