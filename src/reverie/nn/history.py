r"""Historical averaging: a player is held near the mean of where its weights have been.

.. math:: \Big\lVert \theta - \frac1t \sum_{i=1}^t \theta_i \Big\rVert^2

Two players that circle each other are pulled to the middle of the circle.

References:
    | Improved Techniques for Training GANs (Salimans et al., 2016), Section 3.3
    | https://arxiv.org/abs/1606.03498
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reverie.core.model import Memory


class History(Memory):
    """Creates the memory of a network's past weights: their mean.

    Arguments:
        network: whose; it is not a part of this.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._weights = list(network.parameters())
        self.count: Tensor
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        for i, weight in enumerate(self._weights):
            self.register_buffer(str(i), torch.zeros_like(weight, requires_grad=False))

    def distance(self) -> Tensor:
        """The squared distance of the weights from their mean so far; 0 before the first ``remember``."""
        if not self.count:
            return self._weights[0].new_zeros(())
        means = [self.get_buffer(str(i)) for i in range(len(self._weights))]
        return torch.stack([(w - m).square().sum() for w, m in zip(self._weights, means, strict=True)]).sum()

    def remember(self) -> None:
        """Takes the present weights into the mean."""
        self.count += 1
        for i, weight in enumerate(self._weights):
            self.get_buffer(str(i)).lerp_(weight.detach(), 1.0 / float(self.count))
