"""``reverie cite``: BibTeX of what a run used."""

from __future__ import annotations

import contextlib
import json
from typing import Annotated

import typer

from reverie.core.catalog import find, read_entry
from reverie.core.run import Run
from reverie.report.citations import bibtex, papers_of


def cite(run: Annotated[str, typer.Argument(help="A run folder, or a recipe's name.")]) -> None:
    """Print BibTeX of the papers behind a run: its model's, and those of the figures it was evaluated by."""
    folder = Run(run)
    entry = read_entry(folder.recipe_file) if folder.recipe_file.is_file() else find(run)
    report = folder.report / "report.json"
    figures = {}
    if report.is_file():
        with contextlib.suppress(ValueError, KeyError):  # damaged: the model's own papers are told all the same
            figures = json.loads(report.read_text(encoding="utf-8"))["figures"]
    for paper in [*entry.papers, *papers_of(figures)]:
        print(bibtex(paper))
