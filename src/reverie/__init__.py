"""Reverie: every family of deep generative models of images, trained, sampled and measured honestly.

The names below are imported when they are first used, so that ``import reverie`` needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reverie.evaluate.evaluate import evaluate
    from reverie.samplers.sample import sample
    from reverie.train.build import create, load
    from reverie.train.train import train

__version__ = "0.1.0"
__all__ = ["create", "evaluate", "load", "sample", "train"]

_HOMES = {
    "create": "reverie.train.build",
    "evaluate": "reverie.evaluate.evaluate",
    "load": "reverie.train.build",
    "sample": "reverie.samplers.sample",
    "train": "reverie.train.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'reverie' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
