"""``reverie data SOURCE``: what a source holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

import reverie
from reverie.core.files import check_file
from reverie.core.recipe import parse_change
from reverie.core.terminal import reading_bar, shown

if TYPE_CHECKING:
    from reverie.data.inspect import Report


def data(
    source: Annotated[str, typer.Argument(help="A folder, a zip, IDX files, a built-in name, or hf:owner/name.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="What training would be told, as in size=64 background=black.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The contact sheet; contact-SOURCE.png here if not given.")
    ] = None,
) -> None:
    """What a source holds; a contact sheet; what is broken in it; what is advised."""
    changes = {key.removeprefix("data."): value for key, value in map(parse_change, settings or [])}
    config = reverie.DataConfig.read({"source": source, **changes}, "data")
    file = output or Path(f"contact-{re.sub('[^A-Za-z0-9]+', '-', Path(source).stem).strip('-') or 'sheet'}.png")
    check_file(file, (".png",), "data")
    with reading_bar() as progress:
        report = reverie.inspect(config, progress=progress)
    reverie.contact_sheet(report.dataset, file)
    console = Console()
    _show(console, report)
    console.print(f"Contact sheet: {file}", markup=False, highlight=False)


def _show(console: Console, report: Report) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in _facts(report):
        table.add_row(Text(name, style="bold"), Text(value))
    console.print(table)
    for title, lines in (
        ("Not used", [str(item) for item in report.skipped[:10]]),
        ("Copies", [f"{shown(copy)} of {shown(first)}" for copy, first in report.copied]),
        ("Advice", list(report.advice)),
    ):
        if lines:
            console.print(Text(title, style="bold"))
            for line in lines:
                console.print(Text("  " + line))


def _facts(report: Report) -> list[tuple[str, str]]:
    """Pairs of what is told and its value."""
    dataset, looks = report.dataset, report.looks
    facts = [("source", f"{shown(dataset.config.source)} ({report.kind})"), ("rows", f"{len(dataset.pool):,}")]
    if looks is not None:
        facts.append(("width", f"{looks.widths[0]} to {looks.widths[2]}, median {looks.widths[1]}"))
        facts.append(("height", f"{looks.heights[0]} to {looks.heights[2]}, median {looks.heights[1]}"))
        facts.append(("files", ", ".join(f"{name} {count:,}" for name, count in looks.formats.items())))
        facts.append(("grey, transparent", f"{looks.grey:,}, {looks.alpha:,}"))
    for name, counts in (("classes", report.classes), ("domains", report.domains)):
        if counts:
            listed = ", ".join(f"{shown(key)} {count:,}" for key, count in list(counts.items())[:20])
            least, most = min(counts.values()), max(counts.values())
            facts.append(
                (name, f"{len(counts):,}, of {least:,} to {most:,} rows: {listed}" + " …" * (len(counts) > 20))
            )
    for name, counts in report.attributes.items():
        listed = ", ".join(f"{shown(key)} {count:,}" for key, count in list(counts.items())[:20])
        facts.append((shown(name), listed + " …" * (len(counts) > 20)))
    tags = report.tags
    if tags is not None and tags.tagged:
        listed = ", ".join(f"{shown(key)} {count:,}" for key, count in tags.counts.most_common(20))
        more = " …" * (len(tags.counts) > 20)
        facts.append(
            ("tags", f"{tags.tagged:,} of {tags.rows:,} rows have some, of {len(tags.counts):,}: {listed}{more}")
        )
    if report.maps:
        facts.append(("maps", ", ".join(report.maps)))
    facts.append(("copies", f"{report.copies:,}"))
    facts.append(("not used", f"{report.broken:,}"))
    facts.append(("as trained on", f"{'x'.join(map(str, dataset.space.shape))}"))
    return [*facts, *(("", note) for note in dataset.notes)]
