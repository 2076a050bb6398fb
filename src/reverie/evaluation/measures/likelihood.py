"""How likely does the model find rows it has not seen?"""

from __future__ import annotations

import math

import numpy as np
import torch

from reverie.core.capabilities import Bounds, LogProb, Reconstructs
from reverie.core.model import Model
from reverie.core.noise import KeyedNoise
from reverie.data.dataset import Rows
from reverie.evaluation.figure import Figure
from reverie.evaluation.importance import importance_bound
from reverie.evaluation.intervals import around, of_mean
from reverie.evaluation.likelihood import Likelihood, likelihood
from reverie.evaluation.subject import Subject, shuffled
from reverie.maths.densities import bits_per_dim

RANK = 50
DRAWS = 32  # of z for each row
IMPORTANCE_ROWS = 256
SEEN_PATIENCE = 30.0  # seconds spent on training rows, at most


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
    figures = {
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
    if len(dataset.held_out):
        figures |= _seen(subject, found)
    return figures | _tighter(subject, rows, where)


def _seen(subject: Subject, held: Likelihood) -> dict[str, Figure]:
    """The same of rows that the model was trained on: what it remembers of them shows as a gap."""
    found = likelihood(subject.model, subject.dataset.train, seed=subject.seed, most=held.rows, patience=SEEN_PATIENCE)
    assert found is not None
    gap = 1.0 - found.nats / held.nats if held.nats else 0.0
    return {
        "bits_per_dim_train": Figure(
            "Bits per dimension of training rows",
            around(found.bits_per_dim, found.error),
            "Far below the figure of held-out rows means that the model has learnt its training rows by heart.",
            "likelihood",
            "",
            "bits",
            rows=found.rows,
            recipe=subject.recipe(f"bits/dim, {found.statement}", found.rows, "training rows"),
            note=f"{-found.nats:.2f} nats a row: {abs(gap):.1%} {'less' if gap >= 0 else 'more'} than held-out rows",
        )
    }


def _tighter(subject: Subject, rows: Rows, where: str) -> dict[str, Figure]:
    """The importance-weighted bound, where there is a posterior; it takes no label."""
    model = subject.model.view(Reconstructs)
    if model is None:
        return {}
    device = next(p.device for p in subject.model.parameters())
    index = np.sort(shuffled(len(rows))[: min(IMPORTANCE_ROWS, subject.likelihood_rows)])
    x = rows.take(index)[0].to(device)
    noise = KeyedNoise(subject.seed, torch.from_numpy(index).to(device), "importance")
    with torch.no_grad():
        nats = importance_bound(model, x, noise, DRAWS)
    bits = of_mean(bits_per_dim(nats.cpu(), subject.model.space.size))
    label = ", without their labels" if subject.model.space.classes else ""
    return {
        "bits_per_dim_importance": Figure(
            f"Bits per dimension, {DRAWS} draws of z",
            bits,
            f"The same by a tighter bound: how much is lost to the encoder{label}.",
            "importance",
            "lower",
            "bits",
            rows=len(index),
            recipe=subject.recipe(f"importance-weighted bits/dim, K = {DRAWS}", len(index), f"{where} rows{label}"),
            note=f"{-float(nats.mean()):.2f} nats a row{label}",
        )
    }


def _without(model: Model) -> str:
    """What a value costs without a model, where that is a number."""
    levels = model.space.levels or model.space.depth
    return f"; without a model it costs {math.log2(levels):.3g}" if levels else ""
