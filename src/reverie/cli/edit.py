"""``reverie edit``: what lies between samples and beside them, and what the networks look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def edit(
    run: Annotated[Path, typer.Argument(help="A run folder, of a model with latents; for features, with a critic.")],
    tool: Annotated[
        Literal["picks", "interpolate", "arithmetic", "walk", "features", "filters"],
        typer.Argument(
            help="picks shows samples by number, which interpolate and arithmetic use. features: what a critic "
            "looks at, and below what an untrained one does. filters: images without what draws the inside of --box."
        ),
    ],
    plus: Annotated[str | None, typer.Option(help="arithmetic: samples to take from, as in 3,5 or row:3.")] = None,
    minus: Annotated[str | None, typer.Option(help="arithmetic: samples without what is wanted of --plus.")] = None,
    to: Annotated[str | None, typer.Option(help="arithmetic: samples to give it to. interpolate: the ends.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="interpolate: the beginnings.")] = None,
    count: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--count",
            min=1,
            help="How many picks, strips, walks or images (8), or features (6).",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=2, help="Images a strip; frames from stop to stop.")] = 9,
    path: Annotated[Literal["spherical", "linear"], typer.Option(help="Of interpolate.")] = "spherical",
    box: Annotated[str | None, typer.Option(help="filters: x0,y0,x1,y1 in pixels, as in 8,8,20,20.")] = None,
    share: Annotated[float, typer.Option(help="filters: the share dropped of those that draw the box.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the samples; of features, of the untrained critic.")] = 0,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="A .png; for a walk a .gif or .webp.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
) -> None:
    """Move through a model's latents (strips, arithmetic, walks), and see what its networks look at and draw with.

    [bold]reverie edit runs/dcgan-digits picks -n 64[/bold]

    [bold]reverie edit runs/dcgan-digits interpolate --from 3,8 --to 5,1[/bold]

    [bold]reverie edit runs/vae-digits arithmetic --plus row:3 --minus row:8 --to 12[/bold]

    [bold]reverie edit runs/dcgan-digits walk -n 9 -o walk.gif[/bold]

    [bold]reverie edit runs/dcgan-digits features[/bold]

    [bold]reverie edit runs/dcgan-digits filters --box 8,8,20,20[/bold]
    """
    from reverie.edit.draw import Asked, draw  # brings torch

    asked = Asked(
        plus=plus,
        minus=minus,
        to=to,
        start=start,
        count=count,
        steps=steps,
        path=path,
        box=box,
        share=share,
        seed=seed,
    )
    print(draw(run, tool, asked, out=out, device=device))
