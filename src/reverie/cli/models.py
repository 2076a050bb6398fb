"""``reverie models``: what there is."""

from __future__ import annotations

from itertools import groupby
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from reverie.core.catalog import Entry, entries, find
from reverie.core.errors import RequestError, nearest


def models(query: Annotated[str, typer.Argument(help="A recipe's name, or a word to look for.")] = "") -> None:
    """List the recipes, or show one: its paper, what it can do, its settings."""
    console = Console()
    every = list(entries())
    if any(entry.name == query for entry in every):
        show(find(query), console)
        return
    word = query.lower()
    chosen = [e for e in every if word in f"{e.name} {e.family} {e.summary} {' '.join(e.capabilities)}".lower()]
    if not chosen:
        raise RequestError(f"no recipe matches '{query}'{nearest(query, (e.name for e in every))}")
    for family, group in groupby(chosen, key=lambda entry: entry.family):
        table = Table(title=f"[bold]{family}", title_justify="left", box=None, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(style="cyan", no_wrap=True)
        table.add_column()
        for entry in group:
            year = f" [dim]({entry.papers[0].year})[/dim]" if entry.papers else ""
            table.add_row(entry.name, f"{entry.summary}{year}\n[dim]{', '.join(entry.capabilities)}[/dim]")
        console.print(table)
    console.print("[dim]reverie models NAME shows one; reverie train NAME --data SOURCE trains it[/dim]")


def show(entry: Entry, console: Console) -> None:
    """Prints one recipe."""
    console.print(f"[bold cyan]{entry.name}[/bold cyan]  {entry.family}\n{entry.summary}")
    if entry.follows:
        console.print(f"follows   {entry.follows}")
    for paper in entry.papers:
        console.print(f"paper     {paper.title} ({paper.authors}, {paper.year})\n          {paper.url}")
    console.print(f"can       {', '.join(entry.capabilities)}")
    if entry.needs:
        console.print(f"needs     {', '.join(f'{need}=run:PATH' for need in entry.needs)}")
    console.print("settings  (change any with key.path=value)", highlight=False)
    for section in ("model", "train", "data"):
        for path, value in _leaves(entry.body.get(section, {}), section):
            console.print(f"          {path}={value}", highlight=False, markup=False)
    console.print(f"file      {entry.file}", highlight=False, soft_wrap=True)


def _leaves(value: object, path: str) -> list[tuple[str, object]]:
    if isinstance(value, dict):
        return [leaf for key, below in value.items() for leaf in _leaves(below, f"{path}.{key}")]
    return [(path, value)]
