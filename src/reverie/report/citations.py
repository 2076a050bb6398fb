"""BibTeX from the papers that recipes and metrics name."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Mapping
from typing import Any

from reverie.core.catalog import PACKAGE, Paper
from reverie.core.recipe import PaperRecord


def bibtex(paper: Paper | PaperRecord) -> str:
    """One BibTeX entry; its key is the first author, the year and the title's first long word."""
    first = paper.authors.replace(" et al.", "").split(" and ")[0].split(",")[0].split()[-1]
    word = next((w for w in paper.title.split() if len(w) > 3), paper.title.split()[0])
    key = "".join(c for c in f"{first}{paper.year}{word}".lower() if c.isalnum())
    authors = paper.authors.replace(" et al.", " and others").replace(", ", " and ")
    fields = {"title": f"{{{paper.title}}}", "author": authors, "year": str(paper.year), "url": paper.url}
    body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return f"@article{{{key},\n{body}\n}}"


REFERENCE = re.compile(r"\| (?P<title>.+?) \((?P<authors>[^()]+), (?P<year>\d{4})\)[^|]*\| (?P<url>https?://\S+)")


def papers_of(figures: Mapping[str, Mapping[str, Any]]) -> list[Paper]:
    """The papers behind an evaluation's figures: those that the files of their metrics cite, each once."""
    metrics = dict.fromkeys(figure.get("metric", "") for figure in figures.values())
    return list(dict.fromkeys(paper for metric in metrics for paper in cited(metric)))


@functools.cache
def cited(metric: str) -> tuple[Paper, ...]:
    """The papers that a file of ``reverie.evaluation`` cites; none where there is no such file."""
    file = PACKAGE / "evaluation" / f"{metric}.py"
    if not metric.isidentifier() or not file.is_file():
        return ()
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    found = REFERENCE.finditer(text)
    return tuple(Paper(m["title"], m["authors"], int(m["year"]), m["url"]) for m in found)
