"""How many different samples can the model draw?"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reverie.evaluation.figure import Figure
from reverie.evaluation.modes import support_size
from reverie.evaluation.neighbours import nearest, pixel_blocks
from reverie.evaluation.subject import Subject, shuffled

RANK = 42
ROWS = 512  # samples that are held against each other
NEAR = 0.5  # of the typical distance from a held-out row to its nearest training row: two such samples are the same


def measure(subject: Subject) -> dict[str, Figure]:
    """The birthday paradox: from the pairs of samples that are all but the same."""
    dataset = subject.dataset
    if not dataset.space.is_image or not len(dataset.held_out):
        return {}
    samples = subject.drawn.first[:ROWS].flatten(1)
    order = shuffled(len(dataset.held_out))[: len(samples)]
    real = dataset.held_out.take(np.sort(order))[0].flatten(1)
    typical = nearest(real, pixel_blocks(dataset.train, dataset.space.size)).distance.median()
    same = NEAR * float(typical)
    pairs = len(samples) * (len(samples) - 1) // 2
    twins = alike(samples, same)
    duplicates = int(twins.sum()) // 2
    return {
        "support_size": Figure(
            "Different samples, at the least" if not duplicates else "Different samples",
            support_size(twins),
            "How many samples there would be if all were as likely, from how often two of them are all but the same.",
            "modes",
            "higher" if duplicates else "",  # what is only known to be more cannot be the best
            real=support_size(alike(real, same)),
            rows=len(samples),
            recipe=subject.recipe(f"birthday, within {NEAR:g}", len(samples), f"{len(dataset.train):,} training rows"),
            note=f"{duplicates:,} of {pairs:,} pairs are nearer than {NEAR:g} times the typical distance from a "
            "held-out row to a training row",
        )
    }


def alike(rows: Tensor, distance: float) -> Tensor:
    """To how many others each of the rows ``[N, D]`` is nearer than a distance, ``[N]``."""
    apart = torch.cdist(rows.double(), rows.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return (apart < distance).sum(1) - 1
