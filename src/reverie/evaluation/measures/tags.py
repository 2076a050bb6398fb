"""Are the tags right that are given to pictures?"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reverie.core.capabilities import Tags
from reverie.core.noise import KeyedNoise
from reverie.evaluation.figure import Figure
from reverie.evaluation.intervals import of_mean
from reverie.evaluation.subject import Subject, shuffled
from reverie.maths.tagging import precision_and_recall

RANK = 32
TOP, DRAWS = 3, 100  # tags asked for, and draws of z over which they are counted
ROWS = 2000  # held-out rows at most


def measure(subject: Subject) -> dict[str, Figure]:
    """Precision and recall of the most common tags of held-out pictures."""
    model, dataset = subject.model.view(Tags), subject.dataset
    if model is None or not len(dataset.held_out):
        return {}
    index = np.sort(shuffled(len(dataset.held_out))[: min(subject.count, ROWS)])
    known = torch.from_numpy(dataset.held_out.pixels(index))
    if not known.any():
        subject.left_out["Right tags"] = "no held-out row has one"
        return {}
    found = precision_and_recall(_shares(subject, model, index), known, TOP)
    best = precision_and_recall(known, known, TOP)
    # What is right without looking: for every picture the tags that are the most common in training.
    common = torch.from_numpy(dataset.train.pixels(np.arange(len(dataset.train)))).mean(0)
    blind = precision_and_recall(common, known, TOP)
    against = f"{len(found[0]):,} held-out rows with a tag"
    texts = (
        ("precision", "Right tags", f"The share of the {TOP} most likely tags of a picture that it has"),
        ("recall", "Tags found", f"The share of a picture's tags that are among the {TOP} most likely"),
    )
    figures = {}
    for i, (name, title, text) in enumerate(texts):
        figures[f"tag_{name}"] = Figure(
            title,
            of_mean(found[i]),
            f"{text}; the real figure is of its own tags.",
            "tagging",
            "higher",
            "share",
            of_mean(best[i]),
            len(found[i]),
            subject.recipe(f"tag {name}, {TOP} of {known.shape[1]}, {DRAWS} draws", len(found[i]), against),
        )
        figures[f"tag_{name}_blind"] = Figure(
            f"{title}, without looking",
            of_mean(blind[i]),
            f"The same where every picture is given the {TOP} most common tags of the training rows.",
            "tagging",
            unit="share",
            rows=len(blind[i]),
        )
    return figures


def _shares(subject: Subject, model: Tags, index: np.ndarray) -> Tensor:
    """How often each tag is drawn for each of some held-out pictures, ``[B, T]``."""
    device, shares = next(subject.model.parameters()).device, []
    for start in range(0, len(index), subject.batch):
        here = index[start : start + subject.batch]
        image = subject.dataset.held_out.take(here)[1].image
        assert image is not None
        noise = KeyedNoise(subject.seed, torch.from_numpy(here).to(device), "tag")
        with torch.no_grad():
            shares.append(model.tag(image.to(device), noise, DRAWS).cpu())
    return torch.cat(shares)
