"""``reverie evaluate``: how good a trained model is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

import reverie
from reverie.core.errors import ReverieError
from reverie.core.run import Run
from reverie.evaluation.figure import interval, readable
from reverie.training.doctor import diagnose


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    data: Annotated[
        str | None, typer.Option(help="Measure against another source; the one it was trained on if not given.")
    ] = None,
    samples: Annotated[int, typer.Option("-n", "--samples", min=16, help="How many samples to draw.")] = 2000,
    likelihood_rows: Annotated[
        int, typer.Option(min=1, help="Held-out rows whose likelihood is measured, at most.")
    ] = 1024,
    features: Annotated[
        str, typer.Option(help="Where distances are measured: auto, classifier, inception[:PATH], random.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Of the samples.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="How many at once; changes speed and memory only.")] = 256,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    doctor: Annotated[bool, typer.Option("--doctor", help="Only read the journal, and say what went wrong.")] = False,
) -> None:
    """Measure a trained model, and write its page.

    Distances to the data and coverage of it, beside what real rows reach; nearest training rows; bits per dimension
    where the model has a likelihood; speed.

    [bold]reverie evaluate runs/flow-matching-digits --samples 1000[/bold]
    """
    if doctor:
        findings = diagnose(Run.open(run))
        print("\n".join(map(str, findings)) or "no fault found in the journal's values and checkups")
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sampling", total=samples, visible=False)
        report = reverie.evaluate(
            run,
            data,
            samples=samples,
            likelihood_rows=likelihood_rows,
            features=features,
            seed=seed,
            batch=batch,
            device=device,
            say=lambda line: bar.console.print(line, style="dim", markup=False, highlight=False),
            progress=lambda done, total: bar.update(task, completed=done, total=total, visible=done < total),
        )
    table = Table("", "samples", "95 % interval", "real rows", "", box=None, pad_edge=False)
    for question in report["questions"]:
        table.add_row(Text(question["question"], style="dim"))
        for figure in (report["figures"][name] for name in question["figures"]):
            real = "" if figure["real"] is None else " ".join(readable(figure["real"]["value"], figure["unit"]))
            better = {"lower": "lower is better", "higher": "higher is better"}.get(figure["better"], "")
            value = " ".join(readable(figure["value"], figure["unit"]))
            table.add_row(f"  {figure['title']}", value, interval(figure), real, better)
    Console().print(table)
    print(reverie.write_page(run))
    if report["failed"]:
        reasons = "; ".join(dict.fromkeys(report["failed"].values()))
        raise ReverieError(f"{', '.join(report['failed'])} not measured: {reasons}")
