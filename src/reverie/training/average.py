r"""The exponential average of what sampling uses, bias-corrected.

.. math:: \bar\theta_n = \frac{1 - \beta}{1 - \beta^n} \sum_{i=1}^{n} \beta^{n - i} \theta_i

so the first average is the first weights, not the initial ones. Buffers stay as they are, but for batch norm's
statistics, which ``training/batch_norm.py`` takes anew.

References:
    | Adam: A Method for Stochastic Optimization (Kingma and Ba, 2015), Section 3
    | https://arxiv.org/abs/1412.6980
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Creates the average of modules' parameters.

    Arguments:
        modules: from ``Model.averaged``.
        half_life: images after which a weight's share has halved; 0 keeps the latest weights.
        batch: images a round.
    """

    def __init__(self, modules: Sequence[nn.Module], half_life: float, batch: int) -> None:
        unique = {id(p): p for module in modules for p in module.parameters()} if half_life > 0 else {}
        self._live = list(unique.values())
        self._mean = [p.detach().clone() for p in self._live]
        self._beta = 0.5 ** (batch / half_life) if half_life > 0 else 0.0
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Takes the present weights into the average: one pass over them, fused."""
        self.updates += 1
        if self._live:
            weight = (1.0 - self._beta) / (1.0 - self._beta**self.updates)
            torch._foreach_lerp_(self._mean, [p.detach() for p in self._live], weight)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it, the modules hold the averaged weights; nothing is copied."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for i, parameter in enumerate(self._live):
            parameter.data, self._mean[i] = self._mean[i], parameter.data

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint needs."""
        return {str(i): mean for i, mean in enumerate(self._mean)}

    @torch.no_grad()
    def load(self, state: dict[str, Tensor], updates: int) -> None:
        """Takes a checkpoint's state."""
        self.updates = updates
        for i, mean in enumerate(self._mean):
            mean.copy_(state[str(i)])
