"""What does a sample cost, and what did the training?"""

from __future__ import annotations

import torch

from reverie.evaluation.figure import Estimate, Figure
from reverie.evaluation.intervals import of_mean
from reverie.evaluation.speed import speed, work
from reverie.evaluation.subject import Subject
from reverie.training.flops import flops_per_image

RANK = 60
TIMED = 3.0  # seconds spent on each timing, about


def measure(subject: Subject) -> dict[str, Figure]:
    """Time, operations, memory and size."""
    subject.say("timing")
    return _time(subject) | _work(subject) | _training(subject)


def _time(subject: Subject) -> dict[str, Figure]:
    found = speed(subject.model, asks=subject.asks, seconds=TIMED)
    together = of_mean([found.batch / seconds for seconds in found.together])
    extra = found.parameters - (found.sampling_parameters or found.parameters)
    return {
        "images_per_second": Figure(
            "Samples a second",
            together,
            "How many samples this machine draws in a second.",
            better="higher",
            unit="/ s",
            note=f"in batches of {found.batch} on {found.device}, with the recipe's sampling settings",
        ),
        "seconds_alone": Figure(
            "Time for one sample",
            of_mean(found.alone),
            "From asking to having it, drawn by itself.",
            better="lower",
            unit="s",
        ),
        "parameters": Figure(
            "Parameters",
            Estimate(float(found.sampling_parameters or found.parameters)),
            "Numbers that sampling uses.",
            note="" if extra <= 0 else f"{found.parameters:,} with what only training needs",
        ),
    }


def _work(subject: Subject) -> dict[str, Figure]:
    found = work(subject.model, asks=subject.asks)
    return {
        "network_evaluations": Figure(
            "Network evaluations",
            Estimate(found.evaluations),
            "How many times a sample passes through the network.",
            better="lower",
        ),
        "sampling_flops": Figure(
            "Operations for a sample",
            Estimate(found.flops),
            "Floating-point operations of matrix products, convolutions and attention.",
            better="lower",
            unit="FLOPs",
        ),
        "sampling_memory": Figure(
            "Memory while sampling",
            Estimate(found.bytes / 2**20),
            "The most that parameters and values hold at once.",
            better="lower",
            unit="MiB",
            note=f"a batch of {found.batch} in float32, without what libraries use inside",
        ),
    }


def _training(subject: Subject) -> dict[str, Figure]:
    events = list(subject.run.journal())
    seconds, images = (max((e[name] for e in events if name in e), default=0) for name in ("seconds", "images"))
    if not images:
        return {}
    figures = {
        "training_time": Figure(
            "Training time",
            Estimate(float(seconds) / 60.0),
            "Time spent in training steps.",
            better="lower",
            unit="minutes",
            note=f"{images:,} images seen",
        )
    }
    if subject.dataset.config.source != subject.run.recipe.data.get("source"):
        return figures  # operations are counted on the data that the model was trained on
    with torch.random.fork_rng(devices=[]):
        flops = flops_per_image(str(subject.run.recipe_file), subject.dataset) * images
    if flops:
        figures["training_flops"] = Figure(
            "Operations of the training",
            Estimate(flops),
            "Counted as for sampling, in both directions, all players together.",
            better="lower",
            unit="FLOPs",
        )
    return figures
