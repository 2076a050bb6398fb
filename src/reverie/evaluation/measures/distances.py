"""How far is the cloud of samples from the cloud of training rows?"""

from __future__ import annotations

from reverie.evaluation.figure import Figure
from reverie.evaluation.frechet import frechet_estimate
from reverie.evaluation.intervals import around, of_mean
from reverie.evaluation.kernel import BLOCKS, kernel_distance, typical_distance
from reverie.evaluation.moments import Moments
from reverie.evaluation.subject import Subject
from reverie.evaluation.wasserstein import LINES, exact_wasserstein, sliced_wasserstein

RANK = 10
KERNEL_ROWS = 5000  # rows a side at most
TRANSPORTED = 2000
WIDTH_ROWS = 1000
LEAST = 100  # rows a side, below which blocks would hold next to nothing


def measure(subject: Subject) -> dict[str, Figure]:
    """The Fréchet and the kernel distance."""
    drawn, real = subject.drawn, subject.reference
    against = f"{real.train.count:,} training rows"
    found = frechet_estimate(real.train, drawn.moments, drawn.features)
    floor = None
    if len(real.stand_in) > 3:
        stood = Moments(subject.features.size).add(real.stand_in)
        floor = frechet_estimate(real.rest, stood, real.stand_in)
    few = "; fewer samples than features: much too large" if drawn.count <= subject.features.size else ""
    note = f"{drawn.count:,} samples against {against}; the real figure is of {len(real.stand_in):,} real rows{few}"
    figures = {
        "frechet_distance": Figure(
            "Fréchet distance",
            found.distance,
            "How far the samples, as a cloud of features, lie from the training rows: their average and their spread.",
            "frechet",
            "lower",
            real=None if floor is None else floor.distance,
            rows=drawn.count,
            recipe=subject.recipe("frechet", drawn.count, against),
            note=note,
        ),
        "frechet_limit": Figure(
            "Fréchet distance, in the limit",
            found.limit,
            "The same without the part that comes from having few samples, so that counts need not be equal; of real "
            "rows it is about 0.",
            "frechet",
            "lower",
            real=None if floor is None else floor.limit,
            rows=drawn.count,
            recipe=subject.recipe("frechet limit", drawn.count, against),
            note="extrapolated in 1/N from halves of the samples",
        ),
    }
    side = min(len(drawn.features), len(real.stand_in), len(real.rows), KERNEL_ROWS)
    if side < LEAST:
        subject.left_out["Kernel, Gaussian MMD and Wasserstein distances"] = (
            f"they need {LEAST} rows a side, not {side}"
        )
        return figures
    kernel = kernel_distance(real.rows[:side], drawn.features[:side])
    best = kernel_distance(real.rows[:side], real.stand_in[:side])
    figures["kernel_distance"] = Figure(
        "Kernel distance",
        around(kernel.value, kernel.error, BLOCKS - 1),
        "How far the samples lie from the training rows, in a measure that does not depend on how many there are; "
        "of real rows it is 0 on average.",
        "kernel",
        "lower",
        real=around(best.value, best.error, BLOCKS - 1),
        rows=side,
        recipe=subject.recipe(f"kernel, {BLOCKS} blocks", side, f"{side:,} training rows"),
        note=f"{side:,} samples against {side:,} training rows, in {BLOCKS} blocks",
    )
    return figures | _gaussian(subject, side) | _transport(subject, side)


def _gaussian(subject: Subject, side: int) -> dict[str, Figure]:
    """The maximum mean discrepancy with a Gaussian kernel."""
    drawn, real = subject.drawn, subject.reference
    width = typical_distance(real.rows[:WIDTH_ROWS])
    if width == 0.0:
        return {}
    found = kernel_distance(real.rows[:side], drawn.features[:side], width=width)
    best = kernel_distance(real.rows[:side], real.stand_in[:side], width=width)
    return {
        "gaussian_mmd": Figure(
            "Gaussian MMD",
            around(found.value, found.error, BLOCKS - 1),
            "The squared maximum mean discrepancy with a kernel that sees any difference of two clouds; 2 at the most.",
            "kernel",
            "lower",
            real=around(best.value, best.error, BLOCKS - 1),
            rows=side,
            recipe=subject.recipe(f"Gaussian MMD², {BLOCKS} blocks", side, f"{side:,} training rows"),
            note=f"unbiased: about 0 for real rows; sigma = {width:.3g}, the median distance of training rows",
        )
    }


def _transport(subject: Subject, most: int) -> dict[str, Figure]:
    """The Wasserstein distances of as many samples and training rows."""
    drawn, real = subject.drawn, subject.reference
    side = min(most, TRANSPORTED)
    whole = (real.rows[:side], drawn.features[:side], real.stand_in[:side])
    blocks = [part.split(side // BLOCKS)[:BLOCKS] for part in whole]
    exact = [exact_wasserstein(a, b) for a, b in zip(blocks[0], blocks[1], strict=True)]
    floor = [exact_wasserstein(a, b) for a, b in zip(blocks[0], blocks[2], strict=True)]
    lines = [sliced_wasserstein(a, b) for a, b in zip(blocks[0], blocks[1], strict=True)]
    lines_floor = [sliced_wasserstein(a, b) for a, b in zip(blocks[0], blocks[2], strict=True)]
    return {
        "wasserstein": Figure(
            "Wasserstein distance",
            of_mean(exact),
            "How far samples must be moved, on average, to lie on training rows; few rows make it large, for real rows "
            "as well.",
            "wasserstein",
            "lower",
            real=of_mean(floor),
            rows=side,
            recipe=subject.recipe(f"W1, {BLOCKS} blocks", side, f"{side:,} training rows"),
            note=f"the mean over {BLOCKS} blocks of {side // BLOCKS} rows, exact in each",
        ),
        "sliced_wasserstein": Figure(
            "Sliced Wasserstein distance",
            of_mean(lines),
            "The same on lines through the features, averaged over many: each line by itself needs few rows.",
            "wasserstein",
            "lower",
            real=of_mean(lines_floor),
            rows=side,
            recipe=subject.recipe(f"sliced W2, {LINES} lines, {BLOCKS} blocks", side, f"{side:,} training rows"),
            note=f"the mean over {BLOCKS} blocks of {side // BLOCKS} rows, {LINES} lines",
        ),
    }
