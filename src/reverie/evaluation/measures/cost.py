"""What does a sample cost?"""

from __future__ import annotations

from reverie.evaluation.figure import Estimate, Figure
from reverie.evaluation.speed import speed
from reverie.evaluation.subject import Subject

RANK = 60
TIMED = 3.0  # seconds spent on each timing, about


def measure(subject: Subject) -> dict[str, Figure]:
    """Time and size."""
    subject.say("timing")
    found = speed(subject.model, seconds=TIMED)
    extra = found.parameters - (found.sampling_parameters or found.parameters)
    return {
        "images_per_second": Figure(
            "Samples a second",
            Estimate(found.images_per_second),
            "How many samples this machine draws in a second.",
            better="higher",
            unit="a second",
            note=f"in batches of {found.batch} on {found.device}, with the recipe's sampling settings",
        ),
        "seconds_alone": Figure(
            "Time for one sample",
            Estimate(found.seconds_alone),
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
