"""``reverie data SOURCE``: what a source holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from reverie.data.config import DataConfig
    from reverie.data.inspect import Report


def data(
    source: Annotated[str, typer.Argument(help="A folder, a zip, an IDX file or folder, or a built-in name.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="What training would be told, as in size=64 background=black.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The contact sheet; contact-SOURCE.png here if not given.")
    ] = None,
) -> None:
    """What a source holds; a contact sheet; what is broken in it; what is advised."""
    import re

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from reverie.data.inspect import contact_sheet, inspect

    config = _config(source, settings or [])
    console = Console()
    columns = (TextColumn("reading images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        report = inspect(config, progress=lambda done, total: bar.update(task, completed=done, total=total))
    file = output or Path(f"contact-{re.sub('[^A-Za-z0-9]+', '-', Path(source).stem).strip('-') or 'sheet'}.png")
    contact_sheet(report.dataset, file)
    _show(console, report)
    console.print(f"Contact sheet: {file}", markup=False, highlight=False)


def _config(source: str, settings: list[str]) -> DataConfig:
    import yaml

    from reverie.core.errors import RequestError
    from reverie.data.config import DataConfig

    values: dict[str, object] = {"source": source}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise RequestError(f"'{setting}' is not key=value, as in size=64")
        try:
            values[key.removeprefix("data.")] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise RequestError(f"'{setting}': the value cannot be read") from None
    return DataConfig.read(values, "data")


def _show(console: Console, report: Report) -> None:
    from rich.table import Table
    from rich.text import Text

    from reverie.data.pool import shown

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
    from reverie.data.pool import shown

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
    facts.append(("copies", f"{report.copies:,}"))
    facts.append(("not used", f"{report.broken:,}"))
    facts.append(("as trained on", f"{'x'.join(map(str, dataset.space.shape))}"))
    return [*facts, *(("", note) for note in dataset.notes)]
