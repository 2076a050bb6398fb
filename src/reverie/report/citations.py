"""BibTeX from the papers that recipes and metrics name."""

from __future__ import annotations

from collections.abc import Iterable

from reverie.core.catalog import Paper
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


METRICS = {
    "frechet_distance": Paper(
        "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium",
        "Heusel, Ramsauer, Unterthiner, Nessler and Hochreiter",
        2017,
        "https://arxiv.org/abs/1706.08500",
    ),
    "kernel_distance": Paper(
        "Demystifying MMD GANs",
        "Bińkowski, Sutherland, Arbel and Gretton",
        2018,
        "https://arxiv.org/abs/1801.01401",
    ),
    "precision": Paper(
        "Improved Precision and Recall Metric for Assessing Generative Models",
        "Kynkäänniemi, Karras, Laine, Lehtinen and Aila",
        2019,
        "https://arxiv.org/abs/1904.06991",
    ),
    "coverage": Paper(
        "Reliable Fidelity and Diversity Metrics for Generative Models",
        "Naeem, Oh, Uh, Choi and Yoo",
        2020,
        "https://arxiv.org/abs/2002.09797",
    ),
    "bits_per_dim": Paper(
        "A note on the evaluation of generative models",
        "Theis, van den Oord and Bethge",
        2015,
        "https://arxiv.org/abs/1511.01844",
    ),
}
"""The papers behind an evaluation's figures, by the figure's name."""


def papers_of(figures: Iterable[str]) -> list[Paper]:
    """The papers behind some figures."""
    return [METRICS[name] for name in figures if name in METRICS]
