"""Do samples follow the maps that they were drawn for?"""

from __future__ import annotations

import torch

from reverie.evaluation.figure import Figure
from reverie.evaluation.intervals import of_mean
from reverie.evaluation.subject import Subject
from reverie.maths.edges import edge_agreement, edges

RANK = 33


def measure(subject: Subject) -> dict[str, Figure]:
    """How well the edges of the first samples agree with those they were drawn for; of models that draw from edges."""
    asks = subject.dataset.asks(subject.model.space)
    if asks is None or subject.dataset.config.maps != "edges":
        return {}
    found = edges(subject.drawn.first)
    wanted = asks(torch.arange(len(found))).image
    assert wanted is not None
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
