"""``reverie edit``: what lies between samples, and beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def edit(
    run: Annotated[Path, typer.Argument(help="A run folder, of a model with latents.")],
    tool: Annotated[
        Literal["picks", "interpolate", "arithmetic", "walk"],
        typer.Argument(help="picks shows samples by number; the others use those numbers."),
    ],
    plus: Annotated[str | None, typer.Option(help="arithmetic: samples to take from, as in 3,5 or row:3.")] = None,
    minus: Annotated[str | None, typer.Option(help="arithmetic: samples without what is wanted of --plus.")] = None,
    to: Annotated[str | None, typer.Option(help="arithmetic: samples to give it to. interpolate: the ends.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="interpolate: the beginnings.")] = None,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many picks, strips or walks.")] = 8,
    steps: Annotated[int, typer.Option(min=2, help="Images a strip; frames from stop to stop.")] = 9,
    path: Annotated[Literal["spherical", "linear"], typer.Option(help="Of interpolate.")] = "spherical",
    seed: Annotated[int, typer.Option(help="Of the samples.")] = 0,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="A .png; for a walk a .gif or .webp.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
) -> None:
    """Move through a model's latents: strips between samples, arithmetic, walks.

    [bold]reverie edit runs/dcgan-digits picks -n 64[/bold]

    [bold]reverie edit runs/dcgan-digits interpolate --from 3,8 --to 5,1[/bold]

    [bold]reverie edit runs/vae-digits arithmetic --plus row:3 --minus row:8 --to 12[/bold]

    [bold]reverie edit runs/dcgan-digits walk -n 9 -o walk.gif[/bold]
    """
    from reverie.edit.draw import draw  # brings torch

    print(
        draw(
            run,
            tool,
            plus=plus,
            minus=minus,
            to=to,
            start=start,
            count=count,
            steps=steps,
            path=path,
            seed=seed,
            out=out,
            device=device,
        )
    )
