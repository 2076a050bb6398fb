"""Control: networks of which a copy, fed a map, can steer the original through its ``residuals``.

The copy's outputs pass layers that start at zero: at first the original is as it was.

References:
    | Adding Conditional Control to Text-to-Image Diffusion Models (Zhang, Rao and Agrawala, 2023)
    | https://arxiv.org/abs/2302.05543
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class Controllable(Protocol):
    """A denoiser that can be controlled."""

    def control(self, maps: int) -> nn.Module:
        """A trainable copy of the part of this network that makes its residuals.

        Arguments:
            maps: channels of the map, ``Condition.image``.

        Returns:
            a module that is called as ``forward(x, t, condition)`` and returns the network's ``residuals``.
        """
