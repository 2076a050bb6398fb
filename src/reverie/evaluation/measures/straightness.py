"""How straight are the paths from noise to samples?"""

from __future__ import annotations

import torch
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises
from reverie.core.noise import KeyedNoise
from reverie.evaluation.figure import Figure
from reverie.evaluation.intervals import of_mean
from reverie.evaluation.straightness import straightness
from reverie.evaluation.subject import Subject

RANK = 55
ROWS = 128
STEPS = 20


def measure(subject: Subject) -> dict[str, Figure]:
    """The straightness of the flow of a model that denoises."""
    flow = subject.model.view(Denoises)
    if flow is None:
        return {}
    subject.say("following paths")
    device = next(subject.model.parameters()).device
    noise = KeyedNoise(subject.seed, torch.arange(ROWS, device=device), "straightness")
    if subject.asks is not None:  # a model that draws from maps bends as it does on those of its data
        condition: Condition | None = subject.asks(noise.ids).to(device)
    else:
        classes = flow.space.classes
        condition = Condition(label=noise.fork("label").integers(classes)) if classes else None
    with torch.no_grad():
        bends: Tensor = straightness(flow, noise.normal(*flow.space.shape), STEPS, condition)
    return {
        "straightness": Figure(
            "Straightness of paths",
            of_mean(bends.cpu()),
            "How far the paths from noise to samples bend away from straight lines; at 0 one step is enough.",
            "straightness",
            "lower",
            rows=ROWS,
            recipe=subject.recipe("straightness", ROWS, f"{STEPS} steps of Heun's method"),
            note="squared, averaged over values and times, in the coordinates in which noise is added along lines",
        )
    }
