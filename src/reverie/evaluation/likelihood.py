r"""Likelihoods of held-out rows in bits per dimension.

A model of discrete values (``Bounds`` of rows that lie on levels) bounds their probability itself. A density needs
dequantisation: each value is spread evenly over its bin, which gives a bound of the probability of the level,

.. math:: \log P(x) \ge E_{u} \log p(x + u) + D \log \tfrac{2}{depth - 1}

References:
    | A note on the evaluation of generative models (Theis, van den Oord and Bethge, 2015), Section 3.1
    | https://arxiv.org/abs/1511.01844
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Bounds, LogProb
from reverie.core.model import Model
from reverie.core.noise import KeyedNoise
from reverie.data.dataset import Rows
from reverie.maths.densities import bits_per_dim, dequantise, log_bin


@dataclass(frozen=True)
class Likelihood:
    """A mean over rows.

    Arguments:
        nats: log probability (or a bound of it) a row.
        bits_per_dim: the same in bits a value.
        error: the standard error of ``bits_per_dim``.
        rows: how many rows were measured.
        statement: what kind of number this is, in a sentence.
    """

    nats: float
    bits_per_dim: float
    error: float
    rows: int
    statement: str


def likelihood(
    model: Model, rows: Rows, *, seed: int = 0, most: int | None = 1024, batch: int = 32, patience: float | None = 60.0
) -> Likelihood | None:
    """Measures a model's likelihood; None where it has none. Always in float32.

    Arguments:
        model: on its device, in eval mode.
        rows: held-out rows.
        seed: of the noise.
        most: at most so many rows, always the same, from all over: a source may be sorted by class. None for all.
        batch: rows at once.
        patience: seconds after which no new batch is begun, since an ODE's likelihood is slow; None for no limit.
    """
    if model.view(Bounds) is None and model.view(LogProb) is None:
        return None
    device = next((p.device for p in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    count = len(rows) if most is None else min(most, len(rows))
    order = np.random.Generator(np.random.Philox(0)).permutation(len(rows))[:count]
    found: list[Tensor] = []
    begun = time.monotonic()
    for start in range(0, count, batch):
        index = np.sort(order[start : start + batch])
        x, condition = rows.take(index)
        noise = KeyedNoise(seed, torch.from_numpy(index).to(device), "likelihood")
        with torch.no_grad():
            found.append(_nats(model, x.to(device), condition.to(device), noise).cpu().double())
        if patience is not None and time.monotonic() - begun > patience:
            break
    nats = torch.cat(found)
    bits = bits_per_dim(nats, model.space.size)
    error = float(bits.std() / len(bits) ** 0.5) if len(bits) > 1 else float("nan")
    return Likelihood(float(nats.mean()), float(bits.mean()), error, len(nats), _statement(model))


def _nats(model: Model, x: Tensor, condition: Condition, noise: KeyedNoise) -> Tensor:
    exact = model.view(LogProb)
    if exact is None:
        bound = model.view(Bounds)
        assert bound is not None
        return bound.elbo(x, noise, condition)
    depth = _spread_over(model)
    if depth is None:
        return exact.log_prob(x, condition)
    spread = dequantise(x, noise.fork("dequantise").uniform(*x.shape[1:]), depth)
    return exact.log_prob(spread, condition) + model.space.size * log_bin(depth)


def _spread_over(model: Model) -> int | None:
    """The number of levels that a density's rows are spread over; None where they are continuous, or integers."""
    return model.space.depth if model.space.levels is None else None


def _statement(model: Model) -> str:
    given = " given their labels" if model.space.classes else ""
    depth, levels = model.space.depth, model.space.levels
    kind = "a bound" if model.view(LogProb) is None else "exact"
    if levels is None and depth is None:
        return f"{kind}; of the density of continuous rows{given}, so it may be negative"
    if model.view(LogProb) is not None and levels is None:
        return f"a bound, by uniform dequantisation of {depth} levels, of the probability of rows{given}"
    return f"{kind}; of the probability of rows of {levels or depth} levels{given}, without dequantisation"
