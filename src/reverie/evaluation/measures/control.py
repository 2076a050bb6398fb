"""Do samples keep to the maps that they were drawn for?"""

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

RANK = 35


def measure(subject: Subject) -> dict[str, Figure]:
    """How far the map of a sample is from the one it was drawn for; of edges, how well the two agree."""
    asks, maps_of = subject.asks, _observer(subject)
    if asks is None or maps_of is None or not subject.model.space.is_image:
        return {}
    x = subject.drawn.first
    ids = torch.arange(len(x))
    wanted, found = asks(ids).image, maps_of(x)
    assert wanted is not None
    against = "the maps of held-out rows"
    if bool((wanted.abs() == 1).all()) and wanted.shape[1] == 1:
        # Every map is held against that of the next sample, too: what chance gives.
        chance = float(edge_agreement(found, wanted.roll(1, 0)).mean())
        return {
            "edge_f1": Figure(
                "Agreement of edges",
                of_mean(edge_agreement(found, wanted)),
                "The F1 of a sample's edges and those it was drawn for, within one pixel.",
                "",
                "higher",
                "share",
                None,
                len(x),
                subject.recipe("edge F1", len(x), against),
                f"against another sample's edges: {chance:.1%}",
            )
        }
    return {
        "map_error": Figure(
            "Error of the maps",
            of_mean((found - wanted).square().flatten(1).mean(1).sqrt()),
            "How far what is seen of a sample is from what it was drawn for: root of the mean square, of [-1, 1].",
            "",
            "lower",
            "",
            None,
            len(x),
            subject.recipe("map error", len(x), against),
        )
    }


def _observer(subject: Subject) -> Callable[[Tensor], Tensor] | None:
    """The way from images to their maps, where maps are made from images at all."""
    observes = subject.model.view(Observes)
    if observes is not None:
        # The same noise as of the maps asked for: the same holes.
        return lambda x: observes.observe(x, KeyedNoise(0, torch.arange(len(x)), "observe"))
    return COMPUTED.get(subject.dataset.config.maps)
