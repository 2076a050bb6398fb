"""``reverie cite``: BibTeX of what a run used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reverie.core.catalog import find, read_entry
from reverie.report.citations import bibtex


def cite(run: Annotated[str, typer.Argument(help="A run folder, or a recipe's name.")]) -> None:
    """Print BibTeX of the papers behind a run."""
    recipe = Path(run) / "recipe.yaml"
    entry = read_entry(recipe) if recipe.is_file() else find(run)
    for paper in entry.papers:
        print(bibtex(paper))
