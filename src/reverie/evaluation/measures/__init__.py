"""What an evaluation asks of a model, a file a question, found by its name.

Each file opens with its question, has ``RANK``, which puts the questions in order, and ``measure(subject)``, which
returns figures by name, and none where the question does not apply to this model or these data.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from reverie.evaluation.figure import Figure
from reverie.evaluation.subject import Subject


class Question(NamedTuple):
    """What is asked, in a sentence, and what answers it."""

    name: str
    text: str
    measure: Callable[[Subject], dict[str, Figure]]


def questions() -> list[Question]:
    """All questions, in order."""
    names = sorted(file.stem for file in Path(__file__).parent.glob("*.py") if file.stem != "__init__")
    modules = {name: import_module(f"{__name__}.{name}") for name in names}
    ranked = sorted(modules.items(), key=lambda item: item[1].RANK)
    return [Question(name, (module.__doc__ or name).splitlines()[0], module.measure) for name, module in ranked]
