r"""A network's weights as they will be some steps of gradient descent on, as a function of what drives the steps.

.. math:: \theta^{k+1} = \theta^k - \eta\, \nabla_\theta L(\theta^k)

References:
    | Unrolled Generative Adversarial Networks (Metz et al., 2017), Equations 6 and 7
    | https://arxiv.org/abs/1611.02163
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from reverie.core.batch import Condition

Judge = Callable[[Tensor, Condition], Tensor]


def ahead(network: nn.Module, loss: Callable[[Judge], Tensor], steps: int, rate: float) -> Judge:
    """The network after some steps down a loss; gradients go through all of them. Its own weights stay as they are.

    Arguments:
        network: called with rows and their condition.
        loss: a scalar, given the network at any one step.
        steps: how many.
        rate: eta.
    """
    weights = {name: weight.detach().requires_grad_() for name, weight in network.named_parameters()}
    # Copies: statistics of a batch norm must not move with steps that are only thought of.
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}

    def with_weights(weights: dict[str, Tensor]) -> Judge:
        return lambda x, condition: functional_call(network, {**weights, **buffers}, (x, condition))

    with torch.enable_grad():
        for _ in range(steps):
            now = loss(with_weights(weights))
            slopes = torch.autograd.grad(now, list(weights.values()), create_graph=True, allow_unused=True)
            weights = {
                name: weight if slope is None else weight - rate * slope
                for (name, weight), slope in zip(weights.items(), slopes, strict=True)
            }
    return with_weights(weights)
