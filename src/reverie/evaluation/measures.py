"""The figures of an evaluation: each metric beside what real rows reach, with a sentence that says what it means."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from reverie.core.errors import RequestError
from reverie.core.model import Model
from reverie.core.run import Run
from reverie.core.sampling import stream
from reverie.data.dataset import Dataset
from reverie.evaluation import likelihood as bits
from reverie.evaluation import pictures
from reverie.evaluation import speed as timing
from reverie.evaluation.coverage import Coverage, coverage
from reverie.evaluation.features.features import Features
from reverie.evaluation.figure import Figure
from reverie.evaluation.frechet import Moments, frechet_distance
from reverie.evaluation.kernel import BLOCKS, kernel_distance
from reverie.evaluation.neighbours import nearest, pixel_blocks
from reverie.evaluation.recognition import confident, recognised

NEIGHBOURS = 4  # nearest training rows shown beside a sample
SHOWN = 12  # samples shown with them
MEMORY = 512  # samples whose distance to the training rows is measured
COVERED = 5000  # rows a side at most: coverage compares all pairs
TIMED = 3.0  # seconds spent on each timing, about
RECOGNISED = 2000  # real rows that the classifier's judgement of samples is held against


class Drawn:
    """Samples as the metrics see them: features of all, pixels of the first ones only.

    Arguments:
        model: loaded.
        features: of the data set.
        count: how many samples.
        seed: of them.
        batch: rows at once.
    """

    def __init__(self, model: Model, features: Features, count: int, seed: int, batch: int) -> None:
        rows, labels, first = [], [], []
        kept = 0
        for chunk in stream(model, count, seed, batch=batch):
            rows.append(features.extract(chunk.x))
            labels.append(chunk.labels if chunk.labels is not None else torch.full((len(chunk.x),), -1))
            if kept < MEMORY or not model.space.is_image:
                first.append(chunk.x[: None if not model.space.is_image else MEMORY - kept].clone())
                kept += len(first[-1])
        self.features, self.labels, self.first = torch.cat(rows), torch.cat(labels), torch.cat(first)
        bad = ~torch.isfinite(self.features).all(1)
        if bad.any():
            raise RequestError(
                f"{int(bad.sum())} of {count} samples are not finite numbers: this model has broken down"
            )


def distances(dataset: Dataset, features: Features, drawn: Drawn, seed: int) -> dict[str, Figure]:
    """Distances to the training rows; coverage of held-out rows. Each beside what real rows reach."""
    order = np.random.Generator(np.random.Philox(seed))
    train = Moments(features.size)
    for block in features.of_rows(dataset.train):
        train.add(block)
    count = len(drawn.features)
    held = torch.cat([torch.empty(0, features.size), *features.of_rows(dataset.held_out)])
    held = held[order.permutation(len(held))]  # a source may be sorted by class, and only the first rows may be used
    floor = frechet_distance(train, Moments(features.size).add(held[:count])) if len(held) > 1 else None
    figures = {
        "frechet_distance": Figure(
            "Fréchet distance",
            frechet_distance(train, Moments(features.size).add(drawn.features)),
            "How far the samples, as a cloud of features, lie from the training rows: their average and their spread.",
            "lower",
            real=floor,
            rows=count,
            note=f"{count:,} samples against {train.count:,} training rows; the real figure is of "
            f"{min(count, len(held)):,} held-out rows (fewer rows give a slightly larger distance)",
        )
    }
    side = min(count, len(held), COVERED)
    if side < 100:
        return figures
    # As many real rows as samples stand in for them: training rows, chosen by the seed.
    chosen = order.permutation(len(dataset.train))[:side]
    real = torch.cat(list(features.of_rows(dataset.train, np.sort(chosen))))
    real = real[order.permutation(len(real))]
    found, best = coverage(held[:side], drawn.features[:side]), coverage(held[:side], real)
    figures["kernel_distance"] = _kernel_figure(real, drawn.features[:side], held[:side])
    return figures | _coverage_figures(found, best, side)


def _kernel_figure(real: Tensor, samples: Tensor, held: Tensor) -> Figure:
    found, floor = kernel_distance(real, samples), kernel_distance(real, held)
    return Figure(
        "Kernel distance",
        found.value,
        "How far the samples lie from the training rows, in a measure that does not depend on how many there are; "
        "of real rows it is 0 on average.",
        "lower",
        real=floor.value,
        rows=len(samples),
        note=f"standard error {found.error:.2g}, of the real figure {floor.error:.2g}; {len(samples):,} samples "
        f"against {len(real):,} training rows, in {BLOCKS} blocks",
    )


def _coverage_figures(found: Coverage, best: Coverage, side: int) -> dict[str, Figure]:
    note = f"{side:,} samples against {side:,} held-out rows, k = 5; the real figure is of training rows"
    sentences = {
        "coverage": "The share of held-out rows that have a sample close by: is all of the data reached?",
        "density": "How often samples fall close to held-out rows, against chance; above the real figure: too safe.",
        "precision": "The share of samples that lie among real rows: are they believable?",
        "recall": "The share of held-out rows that lie among samples: is the whole range there?",
    }
    return {
        name: Figure(
            name.capitalize(),
            getattr(found, name),
            meaning,
            "higher",
            unit="" if name == "density" else "share",
            real=getattr(best, name),
            rows=side,
            note=note,
        )
        for name, meaning in sentences.items()
    }


def recognition(dataset: Dataset, features: Features, drawn: Drawn) -> dict[str, Figure]:
    """What the feature classifier makes of the samples, and of held-out rows."""
    if features.classifier is None:
        return {}
    logits = features.classifier.logits(drawn.features)
    rows = dataset.held_out if len(dataset.held_out) else dataset.train
    real = torch.cat(
        [features.classifier.logits(block) for block in features.of_rows(rows, np.arange(min(RECOGNISED, len(rows))))]
    )
    count = len(logits)
    figures = {
        "confident": Figure(
            "Clear cases",
            confident(logits),
            "The share of samples that the classifier is at least 90 % sure of.",
            "higher",
            "share",
            confident(real),
            count,
        )
    }
    if (drawn.labels >= 0).any():
        assert rows.labels is not None
        figures["recognised"] = Figure(
            "Recognised as asked",
            recognised(logits, drawn.labels),
            "The share of samples that the classifier takes for the class they were asked to be.",
            "higher",
            "share",
            recognised(real, torch.from_numpy(rows.labels[: len(real)])),
            count,
        )
    return figures


def memory(run: Run, dataset: Dataset, drawn: Drawn) -> dict[str, Figure]:
    """How near samples come to training rows, in pixels, and the picture that shows it."""
    if not dataset.space.is_image:
        return {}
    queries = drawn.first[:MEMORY].flatten(1)
    found = nearest(queries, pixel_blocks(dataset.train, dataset.space.size), NEIGHBOURS)
    pictures.neighbours(run, drawn.first[:SHOWN], dataset.train, found.places[:SHOWN])
    scale = dataset.space.size**0.5  # from a distance to the root mean square difference of a value
    real = None
    if len(dataset.held_out):
        held, _ = dataset.held_out.take(np.arange(min(MEMORY, len(dataset.held_out))))
        real = (
            float(nearest(held.flatten(1), pixel_blocks(dataset.train, dataset.space.size)).distance.median()) / scale
        )
    return {
        "nearest_training_row": Figure(
            "Distance to the nearest training row",
            float(found.distance[:, 0].median()) / scale,
            "The median over samples, a pixel on average, on the scale from -1 to 1. Far below that of real held-out "
            "rows means that training rows are being copied; smooth samples come a little nearer without copying.",
            real=real,
            rows=len(queries),
        )
    }


def likelihood(model: Model, dataset: Dataset, seed: int, most: int) -> dict[str, Figure]:
    rows = dataset.held_out if len(dataset.held_out) else dataset.train
    found = bits.likelihood(model, rows, seed=seed, most=most)
    assert found is not None
    where = "held-out" if len(dataset.held_out) else "training"
    return {
        "bits_per_dim": Figure(
            "Bits per dimension",
            found.bits_per_dim,
            f"What it costs to write down one value of a {where} row with this model{_without(model)}.",
            "lower",
            "bits",
            rows=found.rows,
            note=f"{found.statement}; standard error {found.error:.3g}; {-found.nats:.2f} nats a row",
        )
    }


def _without(model: Model) -> str:
    """What a value costs without a model, where that is a number."""
    levels = model.space.levels or model.space.depth
    return f"; without a model it costs {math.log2(levels):.3g}" if levels else ""


def speed(model: Model) -> dict[str, Figure]:
    found = timing.speed(model, seconds=TIMED)
    extra = found.parameters - (found.sampling_parameters or found.parameters)
    return {
        "images_per_second": Figure(
            "Samples a second",
            found.images_per_second,
            "How many samples this machine draws in a second.",
            "higher",
            "a second",
            note=f"in batches of {found.batch} on {found.device}, with the recipe's sampling settings",
        ),
        "seconds_alone": Figure(
            "Time for one sample", found.seconds_alone, "From asking to having it, drawn by itself.", "lower", "s"
        ),
        "parameters": Figure(
            "Parameters",
            float(found.sampling_parameters or found.parameters),
            "Numbers that sampling uses.",
            note="" if extra <= 0 else f"{found.parameters:,} with what only training needs",
        ),
    }
