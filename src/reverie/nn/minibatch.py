r"""Minibatch discrimination: how close a row lies to the others of its batch, as features of that row.

.. math:: M_i = T f(x_i) \in R^{B \times C}, \qquad o(x_i)_b = \sum_{j \neq i} \exp(-\lVert M_{i,b} - M_{j,b} \rVert_1)

A generator that puts all rows in one place is told apart by the company its rows keep.

References:
    | Improved Techniques for Training GANs (Salimans et al., 2016), Section 3.2
    | https://arxiv.org/abs/1606.03498
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MinibatchFeatures(nn.Module):
    """Creates what appends the closeness of a row to its batch to the row's features.

    A row's logit then depends on its micro-batch: real and generated rows must come in calls of their own.

    Arguments:
        features: the length of f(x).
        kernels: B, how many closenesses are appended.
        width: C, the length of the vectors compared.
    """

    def __init__(self, features: int, kernels: int, width: int = 8) -> None:
        super().__init__()
        self.shape = (kernels, width)
        self.project = nn.Linear(features, kernels * width, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        """Returns ``[B, features + kernels]`` for features ``[B, features]``."""
        with torch.autocast(h.device.type, enabled=False):
            h = h.float()
            m = self.project(h).view(len(h), *self.shape)
            # A value of the vectors at a time: all at once they leave the cache, and take several times as long.
            apart = m.new_zeros(len(h), len(h), self.shape[0])
            for values in m.unbind(2):
                apart = apart + (values[:, None] - values[None]).abs()
            return torch.cat([h, (-apart).exp().sum(1) - 1.0], dim=1)  # less itself, at distance 0
