"""A network's feature maps, read and changed from outside as it runs: what its blocks put out, in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from reverie.nn.attention import SelfAttention
from reverie.nn.denoiser import dit
from reverie.nn.resnet import ResidualBlock

BLOCKS = (ResidualBlock, SelfAttention, dit.Block)


@contextmanager
def steered(network: nn.Module, change: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
    """Within, each block's output goes through ``change``, and what it returns goes on.

    Arguments:
        network: any network; one without blocks has no feature maps.
        change: called with the map's number in this pass, from 0, and the map ``[B, C, places]``. A network that
            goes through its blocks twice, such as one that sees its own answer, makes two passes of a call.
    """
    numbers: dict[nn.Module, int] = {}

    def begin(module: nn.Module, inputs: Any) -> None:
        numbers.clear()

    def pass_on(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        place = numbers.setdefault(module, len(numbers))  # the same again in a second pass
        flat = output.flatten(2) if output.ndim == 4 else output.mT  # a transformer's elements: [B, places, C]
        changed = change(place, flat)
        if changed is flat:
            return output
        # A copy in the output's own layout, which kernels after it count on.
        own = changed.view_as(output) if output.ndim == 4 else changed.mT
        return torch.empty_like(output).copy_(own)

    hooks = [network.register_forward_pre_hook(begin)]
    hooks += [block.register_forward_hook(pass_on) for block in network.modules() if isinstance(block, BLOCKS)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
