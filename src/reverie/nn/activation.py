r"""The nonlinearities of the WGAN-GP robustness grid: leaky ReLU, tanh, and the gated product.

.. math:: a(x_1, x_2) = \tanh(x_1)\, \mathrm{sigmoid}(x_2)

References:
    | Improved Training of Wasserstein GANs (Gulrajani et al., 2017), Section 5.2
    | https://arxiv.org/abs/1704.00028
    | Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016), Equation 2: the gate
    | https://arxiv.org/abs/1606.05328
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Kind = Literal["relu", "tanh", "gated"]


def units(kind: Kind, wanted: int) -> int:
    """How many units a layer must give for ``wanted`` of them after the activation."""
    return 2 * wanted if kind == "gated" else wanted


def activate(x: Tensor, kind: Kind, slope: float = 0.0) -> Tensor:
    """Returns the activation of units along dimension 1; a gate takes two for one.

    Arguments:
        x: ``[B, units, ...]``.
        kind: which.
        slope: of ``relu`` below 0.
    """
    if kind == "tanh":
        return torch.tanh(x)
    if kind == "gated":
        value, gate = x.chunk(2, dim=1)
        return torch.tanh(value) * torch.sigmoid(gate)
    return F.leaky_relu(x, slope) if slope else torch.relu(x)
