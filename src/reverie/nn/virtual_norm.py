r"""Virtual batch norm: each row is normalised by a batch that is fixed once for all, and by itself.

.. math::
    \mu_i = \frac{m_i + R\, m}{R + 1}, \qquad \sigma_i^2 = \frac{s_i + R\, s}{R + 1} - \mu_i^2, \qquad
    y_i = \gamma \frac{x_i - \mu_i}{\sqrt{\sigma_i^2 + \epsilon}} + \beta

with m and s the first two moments of a channel over the reference batch of R rows, :math:`m_i, s_i` over row i. No row
depends on the others of its batch, as it does under batch norm.

References:
    | Improved Techniques for Training GANs (Salimans et al., 2016), Section 3.5
    | https://arxiv.org/abs/1606.03498
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EPS = 1e-5


class VirtualBatchNorm(nn.Module):
    """Creates the normalisation of ``[R + B, C, H, W]``, whose first R rows are the reference batch.

    Arguments:
        channels: C.
        reference: R.
    """

    def __init__(self, channels: int, reference: int) -> None:
        super().__init__()
        self.reference = reference
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        count = self.reference
        first, second = x.float().mean((2, 3)), x.float().square().mean((2, 3))  # [R + B, C]
        shared_first, shared_second = first[:count].mean(0), second[:count].mean(0)
        share = torch.full_like(first[:, :1], 1.0 / (count + 1))
        share[:count] = 0.0  # the reference batch is normalised by itself alone
        mean = shared_first + share * (first - shared_first)
        variance = shared_second + share * (second - shared_second) - mean.square()
        scale = self.weight * (variance.clamp(min=0.0) + EPS).rsqrt()
        shift = self.bias - mean * scale
        return x * scale[:, :, None, None] + shift[:, :, None, None]
