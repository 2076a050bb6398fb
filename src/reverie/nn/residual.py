r"""The plain residual block of encoders and decoders: no normalisation, an identity at the start of training.

References:
    | Fixup Initialization: Residual Learning Without Normalization (Zhang, Dauphin and Ma, 2019)
    | https://arxiv.org/abs/1901.09321
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def halvings(height: int, width: int, stop: int) -> list[tuple[int, int]]:
    """The sizes of a pyramid from ``(height, width)`` down, at least two of them.

    Each is half the last, rounded up, until no side is longer than ``stop``.
    """
    sizes = [(height, width)]
    while len(sizes) == 1 or max(sizes[-1]) > stop:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


class PlainResidual(nn.Module):
    r"""Creates :math:`x + W_2 \, \mathrm{relu}(W_1 \, \mathrm{relu}(x))`, with :math:`W_2 = 0` at first.

    Arguments:
        channels: of the input and the output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)  # Fixup, rule 2: without normalisation a deep sum would blow up

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x))))
