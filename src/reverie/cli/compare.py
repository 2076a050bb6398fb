"""``reverie compare``: several models under one budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import reverie
from reverie.core.errors import ReverieError
from reverie.evaluation.figure import readable

SHOWN = ("frechet_distance", "coverage", "precision", "recognised", "bits_per_dim", "images_per_second")


def compare(
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Settings for every model.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="A folder, zip or IDX file of images, or digits, emoji …")] = None,
    models: Annotated[str | None, typer.Option(help="Recipes to train, as in flow-matching,dcgan,vae.")] = None,
    runs: Annotated[list[Path] | None, typer.Option(help="A trained run to compare; give it once for each.")] = None,
    time: Annotated[str | None, typer.Option(help="Budget of each: time spent training, as in 5m.")] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Budget of each: images seen.")] = None,
    flops: Annotated[float | None, typer.Option(min=1, help="Budget of each: floating-point operations.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each model.")] = 1,
    samples: Annotated[int, typer.Option("-n", "--samples", min=16, help="How many samples to measure on.")] = 2000,
    out: Annotated[Path | None, typer.Option(help="The folder; runs/compare-SOURCE if not given.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
) -> None:
    """Train several models on the same data under the same budget, measure them alike, and write one page.

    The same command again goes on where it stopped. A model that fails is a row that says why.

    [bold]reverie compare --data digits --models flow-matching,dcgan,vae --time 5m[/bold]

    [bold]reverie compare --runs runs/a --runs runs/b[/bold]
    """
    notes = Console(stderr=True)
    folder = out or Path("runs") / f"compare-{Path(data or 'runs').stem}"
    found = reverie.compare(
        data,
        [name.strip() for name in (models or "").split(",") if name.strip()],
        runs=runs or (),
        time=time,
        images=images,
        flops=flops,
        seeds=seeds,
        samples=samples,
        changes=changes or (),
        out=folder,
        device=device,
        say=lambda line: notes.print(line, style="dim", markup=False, highlight=False),
    )
    columns = [name for name in SHOWN if any(name in _figures(row) for row in found["rows"])]
    titles = {name: figure["title"] for row in found["rows"] for name, figure in _figures(row).items()}
    table = Table("", *(titles[name] for name in columns), box=None, pad_edge=False)
    for row in found["rows"]:
        figures = _figures(row)
        cells = [" ".join(readable(figures[n]["value"], figures[n]["unit"])) if n in figures else "" for n in columns]
        table.add_row(_name(row, bool(runs)), *cells)
    Console().print(table)
    for row in found["rows"]:
        if row["error"]:
            notes.print(f"{_name(row, bool(runs))}: {row['error']}", markup=False, highlight=False, soft_wrap=True)
    for warning in found["warnings"]:
        notes.print(warning, style="yellow", markup=False, highlight=False, soft_wrap=True)
    print(reverie.write_comparison(folder))
    if not any(map(_figures, found["rows"])):
        raise ReverieError("nothing could be measured: the lines above say why")


def _name(row: dict[str, Any], of_runs: bool) -> str:
    return Path(row["run"]).name if of_runs else f"{row['model']} {row['seed']}"


def _figures(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    figures: dict[str, dict[str, Any]] = row["report"].get("figures", {})
    return figures
