"""Batch norm's statistics for averaged weights, which no training batch went through.

The statistics kept in training are those of the latest weights. With averaged weights a layer's values have another
mean and, mostly, a smaller variance, so their statistics are taken anew before samples are drawn.

References:
    | Averaging Weights Leads to Wider Optima and Better Generalization (Izmailov et al., 2018), Section 3.2
    | https://arxiv.org/abs/1803.05407
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from reverie.core.batch import Asks
from reverie.core.device import Precision, autocast
from reverie.core.model import Model
from reverie.core.noise import KeyedNoise

BATCHES = 8


@contextmanager
def fresh_statistics(
    model: Model, rows: int, seed: int, precision: Precision, asks: Asks | None = None
) -> Iterator[None]:
    """Within it, batch norm in what sampling uses has the statistics of the weights that it finds.

    Each is the mean over a few batches of samples; layers that sampling does not pass keep what they have.

    Arguments:
        model: any model; one without batch norm is left alone.
        rows: of each batch, as many as in training.
        seed: of the samples.
        precision: of the networks.
        asks: what samples are drawn for, where the model draws from maps.
    """
    norms = {
        module: {name: buffer.clone() for name, buffer in module.named_buffers()}
        for part in model.averaged()
        for module in part.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    }
    if not norms:
        yield
        return
    device = next(model.parameters()).device
    was_training, momenta = model.training, [m.momentum for m in norms]
    model.eval()
    try:
        for norm in norms:
            norm.train()
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over batches
        for k in range(BATCHES):
            ids = torch.arange(k * rows, (k + 1) * rows, device=device)
            with torch.no_grad(), autocast(device, precision, model.space):
                condition = None if asks is None else asks(ids).to(device)
                model.sample(KeyedNoise(seed, ids, "batch norm"), condition)
        for norm, before in norms.items():
            if norm.num_batches_tracked == 0:
                _restore(norm, before)
        model.eval()
        yield
    finally:
        for (norm, before), momentum in zip(norms.items(), momenta, strict=True):
            norm.momentum = momentum
            _restore(norm, before)
        model.train(was_training)


def _restore(norm: _BatchNorm, before: dict[str, torch.Tensor]) -> None:
    for name, buffer in norm.named_buffers():
        buffer.copy_(before[name])
