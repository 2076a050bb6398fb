"""Batch norm's statistics for averaged weights, which no training batch went through.

The statistics kept in training are those of the latest weights. With averaged weights a layer's values have another
mean and, mostly, a smaller variance, so their statistics are taken anew before samples are drawn.

References:
    | Averaging Weights Leads to Wider Optima and Better Generalization (Izmailov et al., 2018), Section 3.2
    | https://arxiv.org/abs/1803.05407
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from reverie.core.batch import Asks, Batch
from reverie.core.capabilities import Criticises, Encodes
from reverie.core.device import Precision, autocast
from reverie.core.model import Model
from reverie.core.noise import KeyedNoise

BATCHES = 8
Real = Callable[[Tensor], Batch]


@contextmanager
def fresh_statistics(
    model: Model, rows: int, seed: int, precision: Precision, asks: Asks | None = None, real: Real | None = None
) -> Iterator[None]:
    """Within it, batch norm in what is averaged has the statistics of the weights that it finds.

    Each is the mean over a few batches of samples, or of real rows where sampling does not pass it: what reads images
    is asked about real ones, while in training it saw samples, too. What neither passes keeps what it has.

    Arguments:
        model: any model; one without batch norm is left alone.
        rows: of each batch, as many as in training.
        seed: of the samples.
        precision: of the networks.
        asks: what samples are drawn for, where the model draws from maps.
        real: training rows by their numbers; None for none.
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
        unused = [norm for norm in norms if norm.num_batches_tracked == 0]
        if unused and real is not None:
            _read(model, [norm for norm in norms if norm not in unused], rows, precision, real)
        for norm in unused:
            if norm.num_batches_tracked == 0:
                _restore(norm, norms[norm])
        model.eval()
        yield
    finally:
        for (norm, before), momentum in zip(norms.items(), momenta, strict=True):
            norm.momentum = momentum
            _restore(norm, before)
        model.train(was_training)


def _read(model: Model, settled: Sequence[_BatchNorm], rows: int, precision: Precision, real: Real) -> None:
    """Shows real rows to what reads them; ``settled`` norms have their statistics."""
    for norm in settled:
        norm.eval()
    device = next(model.parameters()).device
    criticises, encodes = model.view(Criticises), model.view(Encodes)
    for k in range(BATCHES):
        batch = real(torch.arange(k * rows, (k + 1) * rows)).to(device)
        with torch.no_grad(), autocast(device, precision, model.space):
            if criticises is not None:
                criticises.score(batch.x, batch.condition)
            if encodes is not None:
                encodes.encode(batch.x)


def _restore(norm: _BatchNorm, before: dict[str, torch.Tensor]) -> None:
    for name, buffer in norm.named_buffers():
        buffer.copy_(before[name])
