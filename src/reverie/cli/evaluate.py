"""``reverie evaluate``: how good a trained model is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

import reverie
from reverie.core.errors import RequestError, ReverieError
from reverie.core.run import Run
from reverie.evaluation.figure import interval, readable
from reverie.training.doctor import examine, verdict
from reverie.training.doctor.history import read_history


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="How samples are drawn, as in steps=20 guidance=2."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Measure against another source than its own; the page then shows that in place of its own."),
    ] = None,
    samples: Annotated[int, typer.Option("-n", "--samples", min=16, help="How many samples to draw.")] = 2000,
    likelihood_rows: Annotated[
        int, typer.Option(min=1, help="Held-out rows whose likelihood is measured, at most.")
    ] = 1024,
    features: Annotated[
        str,
        typer.Option(
            help="Where distances are measured: auto, classifier, imagenet, inception[:PATH], pretrained:DIR, random; "
            "coordinates of points."
        ),
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Of the samples.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="How many at once; changes speed and memory only.")] = 256,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    doctor: Annotated[bool, typer.Option("--doctor", help="Only read the journal, and say what went wrong.")] = False,
) -> None:
    """Measure a trained model, and write its page.

    Distances to the data and coverage of it, beside what real rows reach; nearest training rows; bits per dimension
    where the model has a likelihood; speed.

    [bold]reverie evaluate runs/flow-matching-digits steps=25 --samples 1000[/bold]
    """
    if doctor:
        return _doctor(run)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sampling", total=samples, visible=False)
        report = reverie.evaluate(
            run,
            data,
            changes=changes or (),
            samples=samples,
            likelihood_rows=likelihood_rows,
            features=features,
            seed=seed,
            batch=batch,
            device=device,
            say=lambda line: bar.console.print(line, style="dim", markup=False, highlight=False),
            progress=lambda done, total: bar.update(task, completed=done, total=total, visible=done < total),
        )
    _print(report)
    for name, why in report["left_out"].items():
        bar.console.print(f"{name}: {why}", style="dim", markup=False, highlight=False, soft_wrap=True)
    print(reverie.write_page(run))
    if report["failed"]:
        reasons = "; ".join(dict.fromkeys(report["failed"].values()))
        raise ReverieError(f"not all could be measured: {reasons}")


def _doctor(run: Path) -> None:
    if not Run(run).journal_file.is_file():
        raise RequestError(f"{run} has no journal (journal.jsonl) to read")
    history = read_history(Run(run))
    if not history.values and not examine(history):
        raise RequestError(f"{run}'s journal holds no values of a training, so there is nothing to judge")
    print(verdict(history))


def _print(report: dict[str, Any]) -> None:
    """A table for each question, in 80 columns."""
    console = Console()
    console.print(f"Distances are on {report['features']['statement']}.", style="dim", markup=False, highlight=False)
    for number, question in enumerate(report["questions"]):
        table = Table(box=None, pad_edge=False, show_header=number == 0, header_style="dim")
        # The same widths in all tables, so that columns stand below each other; 80 in all.
        for title, width in (("", 38), ("", 12), ("95 % interval", 15), ("real rows", 12)):
            table.add_column(title, width=width)
        for figure in (report["figures"][name] for name in question["figures"]):
            table.add_row(*_cells(figure))
        console.print(Text(question["question"], style="bold"))
        console.print(table)


def _cells(figure: dict[str, Any]) -> tuple[str, str, str, str]:
    """Title with an arrow to where better is, value, interval, and what real rows reach."""
    arrow = {"lower": " ↓", "higher": " ↑"}.get(figure["better"], "")
    value = " ".join(readable(figure["value"], figure["unit"]))
    real = "" if figure["real"] is None else " ".join(readable(figure["real"]["value"], figure["unit"]))
    return f"  {figure['title']}{arrow}", value, interval(figure), real
