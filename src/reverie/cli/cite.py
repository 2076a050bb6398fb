"""``reverie cite``: BibTeX of what a run used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reverie.core.catalog import Paper, find, read_entry


def cite(run: Annotated[str, typer.Argument(help="A run folder, or a recipe's name.")]) -> None:
    """Print BibTeX of the papers behind a run."""
    recipe = Path(run) / "recipe.yaml"
    entry = read_entry(recipe) if recipe.is_file() else find(run)
    for paper in entry.papers:
        print(bibtex(paper))


def bibtex(paper: Paper) -> str:
    """One BibTeX entry; its key is the first author, the year and the title's first long word."""
    first = paper.authors.replace(" et al.", "").split(" and ")[0].split(",")[0].split()[-1]
    word = next((w for w in paper.title.split() if len(w) > 3), paper.title.split()[0])
    key = "".join(c for c in f"{first}{paper.year}{word}".lower() if c.isalnum())
    authors = paper.authors.replace(" et al.", " and others").replace(", ", " and ")
    fields = {"title": f"{{{paper.title}}}", "author": authors, "year": str(paper.year), "url": paper.url}
    body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return f"@article{{{key},\n{body}\n}}"
