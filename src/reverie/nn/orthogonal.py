r"""Orthogonal weights: at the start, and by a term that keeps filters apart.

.. math:: R_\beta = \beta \sum_W \lVert W W^\top \odot (1 - I) \rVert_F^2

The term leaves the filters' lengths alone; it makes a generator smooth enough that truncated latents stay within what
it has learnt.

References:
    | Large Scale GAN Training for High Fidelity Natural Image Synthesis (Brock, Donahue and Simonyan, 2019), Equation 3
    | https://arxiv.org/abs/1809.11096
    | Exact solutions to the nonlinear dynamics of learning in deep linear neural networks (Saxe et al., 2014)
    | https://arxiv.org/abs/1312.6120
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized


def orthogonal_(network: nn.Module) -> None:
    """Makes the filters of every linear layer and convolution orthonormal, in place."""
    for layer in _layers(network):
        filters = nn.init.orthogonal_(torch.empty_like(_filters(layer), memory_format=torch.contiguous_format))
        weight = filters.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else filters
        with torch.no_grad():
            if is_parametrized(layer):  # spectral norm takes a new weight as it is
                layer.weight = weight
            else:
                layer.weight.copy_(weight)


def overlap(network: nn.Module) -> Tensor:
    """The sum over layers of squared inner products of different filters: R without beta."""
    terms = []
    for layer in _layers(network):
        w = _filters(layer).flatten(1)
        gram = w @ w.T
        terms.append((gram - torch.diag(gram.diagonal())).square().sum())
    return torch.stack(terms).sum()


def _layers(network: nn.Module) -> Iterator[nn.Linear | nn.Conv2d | nn.ConvTranspose2d]:
    return (layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d))


def _filters(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> Tensor:
    """The weight with its outputs first; a transposed convolution has them second."""
    return layer.weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else layer.weight
