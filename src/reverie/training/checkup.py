"""Vital signs of a training, measured at each sample grid by what the model can do; the doctor reads them.

``diversity``: the mean distance of pairs of samples over that of training rows; ``diversity within classes``: the same
of pairs of one class, for a model that is told the class. Where a code is a belief about z that costs one pass,
``active latents``: the share of latent dimensions that vary with the image, and ``likelihood gap``: how much likelier
training rows are than held-out ones, as a share of the nats of the latter. ``score gap``: how far held-out rows have
fallen from training rows towards samples, by the critic's scores.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reverie.core.capabilities import Bounds, Criticises, Denoises, Encodes
from reverie.core.model import Model
from reverie.core.noise import KeyedNoise
from reverie.data.dataset import Dataset, Rows

ROWS = 64


def checkup(model: Model, dataset: Dataset, samples: Tensor, labels: Tensor | None, seed: int) -> dict[str, float]:
    """Measures all signs that apply; the model is left as it was, and the global generator too.

    Arguments:
        model: with the weights that sampling uses.
        dataset: what it is trained on.
        samples: some of it, ``[B, *space.shape]``.
        labels: what they were drawn for, ``[B]``; None for any.
        seed: of the run.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return _signs(model, dataset, samples, labels, seed)
    finally:
        model.train(was_training)


def _signs(model: Model, dataset: Dataset, samples: Tensor, labels: Tensor | None, seed: int) -> dict[str, float]:
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    count = min(ROWS, len(samples), len(dataset.train))
    order = np.random.Generator(np.random.Philox(seed))
    places = np.sort(order.permutation(len(dataset.train))[:count])
    x, condition = dataset.train.take(places)
    signs: dict[str, float] = {}
    apart = _pairs(x)
    if count > 1 and apart > 0:
        signs["diversity"] = _pairs(samples[:count]) / apart
    if labels is not None and condition.label is not None:
        signs |= _within(x, condition.label, samples, labels)
    # Where a code is a belief about z that costs one pass; that of diffusion is noise, by the sampler run backwards.
    believes = model.view(Encodes) if model.view(Denoises) is None else None
    bounds = model.view(Bounds) if believes is not None else None
    if believes is not None and bounds is not None and count > 1:
        codes = believes.encode(x.to(device))
        real = [z.flatten(1) for z, space in zip(codes, believes.latents, strict=True) if space.levels is None]
        if real:
            signs["active latents"] = float((torch.cat(real, 1).var(0) > 0.01).float().mean())
    held = dataset.held_out
    few = min(count, len(held))
    if few < 16:
        return signs
    if bounds is not None:
        seen, unseen = (_nats(bounds, rows, index, seed, device) for rows, index in _both(dataset, places[:few], order))
        gap, error = seen.mean() - unseen.mean(), ((seen.var() + unseen.var()) / few).sqrt()
        # So few rows differ by chance, of points by as much as their nats are: only what is beyond that counts.
        signs["likelihood gap"] = float(gap / unseen.mean().abs().clamp(min=1e-9)) if gap > 4 * error else 0.0
    criticises = model.view(Criticises)
    if criticises is not None and not model.space.classes and not model.space.drawn_from:
        scores = [
            float(criticises.score(rows.take(i)[0].to(device)).mean()) for rows, i in _both(dataset, places, order)
        ]
        fake = float(criticises.score(samples[:count].to(device)).mean())
        if abs(scores[0] - fake) > 1e-9:
            signs["score gap"] = (scores[0] - scores[1]) / abs(scores[0] - fake)
    return signs


def _within(x: Tensor, known: Tensor, samples: Tensor, labels: Tensor) -> dict[str, float]:
    """Diversity within the classes that have two of each at least; nothing where no class has."""
    groups = [(samples[labels == k], x[known == k]) for k in known.unique().tolist() if k >= 0]
    groups = [(drawn, rows) for drawn, rows in groups if min(len(drawn), len(rows)) > 1]
    apart = sum(_pairs(rows) for _, rows in groups)
    return {"diversity within classes": sum(_pairs(drawn) for drawn, _ in groups) / apart} if apart > 0 else {}


def _both(dataset: Dataset, places: np.ndarray, order: np.random.Generator) -> list[tuple[Rows, np.ndarray]]:
    """As many training and held-out rows."""
    held = np.sort(order.permutation(len(dataset.held_out))[: len(places)])
    return [(dataset.train, places), (dataset.held_out, held)]


def _nats(bounds: Bounds, rows: Rows, index: np.ndarray, seed: int, device: torch.device) -> Tensor:
    x, condition = rows.take(index)
    noise = KeyedNoise(seed, torch.arange(len(index), device=device), "checkup")
    return bounds.elbo(x.to(device), noise, condition.to(device)).cpu().double()


def _pairs(x: Tensor) -> float:
    """The mean distance of two different rows."""
    return float(torch.nn.functional.pdist(x.flatten(1).float().cpu()).mean()) if len(x) > 1 else 0.0
