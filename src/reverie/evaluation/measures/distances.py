"""How far is the cloud of samples from the cloud of training rows?"""

from __future__ import annotations

from reverie.evaluation.figure import Estimate, Figure
from reverie.evaluation.frechet import frechet_distance
from reverie.evaluation.intervals import around
from reverie.evaluation.kernel import BLOCKS, kernel_distance
from reverie.evaluation.moments import Moments
from reverie.evaluation.subject import Subject

RANK = 10
KERNEL_ROWS = 5000  # rows a side at most


def measure(subject: Subject) -> dict[str, Figure]:
    """The Fréchet and the kernel distance."""
    drawn, real = subject.drawn, subject.reference
    against = f"{real.train.count:,} training rows"
    floor = None
    if len(real.stand_in) > 1:
        stood = Moments(subject.features.size).add(real.stand_in)
        floor = Estimate(frechet_distance(real.rest, stood))
    figures = {
        "frechet_distance": Figure(
            "Fréchet distance",
            Estimate(frechet_distance(real.train, drawn.moments)),
            "How far the samples, as a cloud of features, lie from the training rows: their average and their spread.",
            "frechet",
            "lower",
            real=floor,
            rows=drawn.count,
            recipe=subject.recipe("frechet", drawn.count, against),
            note=f"{drawn.count:,} samples against {against}; the real figure is of {len(real.stand_in):,} real rows",
        )
    }
    side = min(len(drawn.features), len(real.stand_in), len(real.rows), KERNEL_ROWS)
    if side < 100:
        return figures
    found = kernel_distance(real.rows[:side], drawn.features[:side])
    best = kernel_distance(real.rows[:side], real.stand_in[:side])
    figures["kernel_distance"] = Figure(
        "Kernel distance",
        around(found.value, found.error, BLOCKS - 1),
        "How far the samples lie from the training rows, in a measure that does not depend on how many there are; "
        "of real rows it is 0 on average.",
        "kernel",
        "lower",
        real=around(best.value, best.error, BLOCKS - 1),
        rows=side,
        recipe=subject.recipe(f"kernel, {BLOCKS} blocks", side, f"{side:,} training rows"),
        note=f"{side:,} samples against {side:,} training rows, in {BLOCKS} blocks",
    )
    return figures
