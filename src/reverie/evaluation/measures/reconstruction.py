"""What is left of an image after encoding and decoding?"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reverie.core.capabilities import Encodes
from reverie.core.images import from_bytes, save_grid, to_bytes
from reverie.evaluation.figure import Figure
from reverie.evaluation.intervals import of_mean
from reverie.evaluation.similarity import WINDOW, psnr, ssim
from reverie.evaluation.subject import Subject, shuffled

RANK = 45
ROWS = 512
SHOWN = 12


def measure(subject: Subject) -> dict[str, Figure]:
    """PSNR, SSIM and the distance of features, of held-out rows and their reconstructions."""
    encodes, dataset = subject.model.view(Encodes), subject.dataset
    if encodes is None or not dataset.space.is_image or any(z.levels for z in encodes.latents):
        return {}
    rows = dataset.held_out if len(dataset.held_out) else dataset.train
    order = shuffled(len(rows))[:ROWS]
    x, _ = rows.take(np.sort(order))
    device = next((p.device for p in subject.model.parameters()), torch.device("cpu"))
    with torch.no_grad():
        y = torch.cat([encodes.decode(encodes.encode(part.to(device))).cpu() for part in x.split(subject.batch)])
    y = from_bytes(to_bytes(y))
    save_grid(torch.cat([x[:SHOWN], y[:SHOWN]]), subject.run.report / "reconstructions.png", columns=SHOWN)
    other = x.roll(1, 0)  # another row: what no reconstruction at all would give
    against = f"{len(x):,} held-out rows" if len(dataset.held_out) else f"{len(x):,} training rows"

    def figure(title: str, found: Tensor, floor: Tensor, meaning: str, better: str, unit: str = "") -> Figure:
        meaning = f"{meaning} The real figure is of two different rows."
        recipe = subject.recipe(title, len(x), against)
        estimate, real = of_mean(found), of_mean(floor)
        return Figure(title, estimate, meaning, "similarity", better, unit, real, len(x), recipe)  # type: ignore[arg-type]

    figures = {
        "psnr": figure(
            "PSNR",
            psnr(x, y).clamp(max=100.0),
            psnr(x, other).clamp(max=100.0),
            "How exact pixels are.",
            "higher",
            "dB",
        ),
        "feature_error": figure(
            "Distance of features", _apart(subject, x, y), _apart(subject, x, other), "How alike the two look.", "lower"
        ),
    }
    if min(dataset.space.shape[1:]) >= WINDOW:
        structure = "How much of the structure is left, of 1."
        figures["ssim"] = figure("SSIM", ssim(x, y), ssim(x, other), structure, "higher")
    return figures


def _apart(subject: Subject, x: Tensor, y: Tensor) -> Tensor:
    """The squared distance of features of length one, ``[B]``: between 0 and 4."""
    one, two = (torch.nn.functional.normalize(subject.features.extract(side).double(), dim=1) for side in (x, y))
    return (one - two).square().sum(1)
