"""``reverie sample``: images from a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

import reverie
from reverie.core.errors import RequestError
from reverie.core.run import Run


def sample(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Sampling settings, as in steps=20 guidance=2.")
    ] = None,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many.")] = 64,
    label: Annotated[int | None, typer.Option(help="The class of all of them; classes are drawn if not given.")] = None,
    data: Annotated[
        str | None,
        typer.Option(help="For models that draw from maps: whose maps, its own data's held-out rows if not given."),
    ] = None,
    maps: Annotated[
        str | None, typer.Option(help="Likewise: pictures that are themselves the maps, a folder or a zip of them.")
    ] = None,
    fit: Annotated[
        bool, typer.Option("--fit", help="Of --maps: take those of another size, or in colour, and make them fit.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same images.")] = 0,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="A .png (one grid), a .npz (arrays), or a folder (a PNG each).")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="How many at once; changes speed and memory only.")] = 256,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16.")] = "auto",
) -> None:
    """Draw samples from a trained model.

    [bold]reverie sample runs/flow-matching-digits -n 100 --label 3 steps=20 guidance=2 -o threes.png[/bold]
    """
    from reverie.core.capabilities import Observes  # brings torch
    from reverie.core.sampling import sampling_of

    if precision not in ("auto", "fp32", "bf16"):
        raise RequestError(f"no precision '{precision}'; known: auto, fp32, bf16")
    if out is not None:
        reverie.check_target(out)
    model = reverie.load(run, device)
    out = out or Path("samples.png" if model.space.is_image else "samples.npz")
    reverie.check_target(out, model.space)
    how = sampling_of(model, changes or ())
    asks = reverie.conditions(Run.open(run).recipe.data, model.space, data, maps, model.view(Observes), fit)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sampling", total=count)
        drawn = reverie.sample(
            model,
            count,
            seed,
            labels=label,
            condition=asks,
            how=how,
            batch=batch,
            precision=precision,  # type: ignore[arg-type]
            on_batch=lambda done: bar.update(task, completed=done),
            check=True,
        )
    if asks is not None and model.space.is_image and out.suffix.lower() == ".png":
        reverie.save_samples(reverie.beside_maps(drawn, asks), out, columns=2 * round((count / 2) ** 0.5) or 2)
    else:
        reverie.save_samples(drawn, out)
    print(out)
