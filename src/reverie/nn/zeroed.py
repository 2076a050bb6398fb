"""Layers that start at zero."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def zeroed(layer: M) -> M:
    """The layer with all its parameters set to zero: what it ends starts as nothing, or as its skip."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
