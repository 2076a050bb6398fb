"""``reverie train``: a model from data."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

import reverie


def train(
    recipe: Annotated[str, typer.Argument(help="A name from `reverie models`, or a recipe file.")],
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Settings, as in train.batch=64.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="A folder, zip or IDX file of images, or digits, emoji, ring …")
    ] = None,
    time: Annotated[str | None, typer.Option(help="Budget: time spent training, as in 10m or 1h30m.")] = None,
    steps: Annotated[int | None, typer.Option(help="Budget: training steps.")] = None,
    images: Annotated[int | None, typer.Option(help="Budget: images seen.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; runs/RECIPE-SOURCE if not given.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Train a model. The same command again resumes; Ctrl-C stops after the present step and keeps everything.

    [bold]reverie train flow-matching --data my-photos --time 10m[/bold]

    [bold]reverie train r3gan --data digits --time 5m data.condition=none[/bold]
    """
    run = reverie.train(
        recipe, data, out=out, time=time, steps=steps, images=images, changes=changes or (), device=device, quiet=quiet
    )
    if not quiet and os.environ.get("RANK", "0") == "0":  # of several processes the first one speaks
        print(f"model    {run.model_file}")
        if run.samples.is_dir():
            print(f"samples  {run.samples}")
        folder = shlex.quote(str(run.folder))
        use = f"edit {folder} tag" if "Tags" in run.recipe.capabilities else f"sample {folder} -n 64"
        print(f"next     reverie {use};  reverie evaluate {folder}")
