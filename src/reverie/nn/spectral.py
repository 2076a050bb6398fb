r"""Spectral norm: each layer's weight divided by its greatest singular value.

.. math:: \bar W = W / \sigma(W), \qquad \sigma(W) = \max_{h \neq 0} \lVert W h \rVert / \lVert h \rVert

with the singular vectors followed by one step of power iteration at each use in training.

References:
    | Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018), Algorithm 1
    | https://arxiv.org/abs/1802.05957
"""

from __future__ import annotations

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized


def spectrally_normalised(network: nn.Module) -> None:
    """Puts spectral norm on every linear layer, convolution and embedding of a network, in place."""
    for layer in list(network.modules()):
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.Embedding):
            spectral_norm(layer)


def is_spectral(network: nn.Module) -> bool:
    """Whether every linear layer and convolution of a network is so normalised."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
    return all(is_parametrized(layer, "weight") for layer in layers)
