"""Reverie: every family of deep generative models of images, trained, sampled and measured honestly.

The names below are imported when they are first used, so that ``import reverie`` needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reverie.core.export import check_target, save_samples
    from reverie.core.sampling import sample, sampling_of
    from reverie.core.space import Space
    from reverie.data.conditions import beside_maps, conditions
    from reverie.data.config import DataConfig
    from reverie.data.inspect import contact_sheet, inspect
    from reverie.evaluation.compare import compare
    from reverie.evaluation.evaluate import evaluate
    from reverie.report.comparison import write_comparison
    from reverie.report.page import write_page
    from reverie.training.build import create, load
    from reverie.training.train import train

__version__ = "0.1.0"
__all__ = [
    "DataConfig",
    "Space",
    "beside_maps",
    "check_target",
    "compare",
    "conditions",
    "contact_sheet",
    "create",
    "evaluate",
    "inspect",
    "load",
    "sample",
    "sampling_of",
    "save_samples",
    "train",
    "write_comparison",
    "write_page",
]

_HOMES = {
    "DataConfig": "reverie.data.config",
    "Space": "reverie.core.space",
    "beside_maps": "reverie.data.conditions",
    "check_target": "reverie.core.export",
    "compare": "reverie.evaluation.compare",
    "conditions": "reverie.data.conditions",
    "contact_sheet": "reverie.data.inspect",
    "create": "reverie.training.build",
    "evaluate": "reverie.evaluation.evaluate",
    "inspect": "reverie.data.inspect",
    "load": "reverie.training.build",
    "sample": "reverie.core.sampling",
    "sampling_of": "reverie.core.sampling",
    "save_samples": "reverie.core.export",
    "train": "reverie.training.train",
    "write_comparison": "reverie.report.comparison",
    "write_page": "reverie.report.page",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'reverie' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
