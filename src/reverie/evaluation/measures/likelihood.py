"""How likely does the model find rows it has not seen?"""

from __future__ import annotations

import math

from reverie.core.capabilities import Bounds, LogProb
from reverie.core.model import Model
from reverie.evaluation.figure import Figure
from reverie.evaluation.intervals import around
from reverie.evaluation.likelihood import likelihood
from reverie.evaluation.subject import Subject

RANK = 50


def measure(subject: Subject) -> dict[str, Figure]:
    """Bits per dimension of held-out rows, where the model has a likelihood."""
    model, dataset = subject.model, subject.dataset
    if model.view(Bounds) is None and model.view(LogProb) is None:
        return {}
    if model.space.classes and not dataset.space.classes:
        subject.say("these rows have no labels: samples are of every class alike, and no likelihood is measured")
        return {}
    subject.say("measuring the likelihood of held-out rows")
    rows = dataset.held_out if len(dataset.held_out) else dataset.train
    found = likelihood(model, rows, seed=subject.seed, most=subject.likelihood_rows)
    assert found is not None
    where = "held-out" if len(dataset.held_out) else "training"
    return {
        "bits_per_dim": Figure(
            "Bits per dimension",
            around(found.bits_per_dim, found.error),
            f"What it costs to write down one value of a {where} row with this model{_without(model)}.",
            "likelihood",
            "lower",
            "bits",
            rows=found.rows,
            recipe=subject.recipe(f"bits/dim, {found.statement}", found.rows, f"{where} rows"),
            note=f"{found.statement}; {-found.nats:.2f} nats a row",
        )
    }


def _without(model: Model) -> str:
    """What a value costs without a model, where that is a number."""
    levels = model.space.levels or model.space.depth
    return f"; without a model it costs {math.log2(levels):.3g}" if levels else ""
