"""What an evaluation asks of a model, a file a question, found by its name.

Each file has ``RANK``, which puts the questions in order, and ``measure(subject)``, which returns figures by name, and
none where the question does not apply to this model or these data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from reverie.evaluation.figure import Figure
from reverie.evaluation.subject import Subject

Measure = Callable[[Subject], dict[str, Figure]]


def all_measures() -> Mapping[str, Measure]:
    """All questions by name, in order."""
    names = sorted(file.stem for file in Path(__file__).parent.glob("*.py") if file.stem != "__init__")
    modules = {name: import_module(f"{__name__}.{name}") for name in names}
    return {name: module.measure for name, module in sorted(modules.items(), key=lambda item: item[1].RANK)}
