r"""A copy of a module that lags behind it, for losses whose target must not run away.

.. math:: \theta^- \leftarrow \mu \theta^- + (1 - \mu) \theta

References:
    | Consistency Models (Song, Dhariwal, Chen and Sutskever, 2023), Equation 8
    | https://arxiv.org/abs/2303.01469
"""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

from reverie.core.model import Memory

M = TypeVar("M", bound=nn.Module)


class Lagging(Memory, Generic[M]):
    """Creates a copy, always in eval mode and without gradients.

    Arguments:
        leader: what it follows; it is not a part of this.
    """

    def __init__(self, leader: M) -> None:
        super().__init__()
        self.module: M = copy.deepcopy(leader).eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Lagging[M]:
        super().train(False)
        return self

    @torch.no_grad()
    def follow(self, leader: nn.Module, decay: float) -> None:
        """Moves towards the leader; at once where ``decay`` (mu) is 0."""
        own = [p.detach() for p in self.module.parameters()]
        torch._foreach_lerp_(own, [p.detach() for p in leader.parameters()], 1.0 - decay)
        for mine, theirs in zip(self.module.buffers(), leader.buffers(), strict=True):
            mine.copy_(theirs)
