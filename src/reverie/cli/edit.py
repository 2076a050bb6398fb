"""``reverie edit``: what lies between samples and beside them, what the networks look at, and pictures changed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from torch import Tensor

ON_LATENTS, ON_PICTURES, FILES = "Tools on latents and networks", "Tools on pictures", "The file"

Tool = Annotated[
    str,
    typer.Argument(
        help="With latents: picks (samples by number, which interpolate and arithmetic use), interpolate, arithmetic, "
        "walk. With a critic: features (what it looks at, and below what an untrained one does). With convolutions: "
        "filters (images without what draws the inside of --box). With a model that denoises: inpaint, upscale, "
        "colourise, deblur, restore, sdedit, vary, invert, blend, guide, control, ctrl-x. With a model of tags: tag."
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings of a tool on pictures, as in steps=100 strength=0.6."),
]
Plus = Annotated[
    str | None,
    typer.Option(
        help="arithmetic: samples to take from, as in 3,5, row:3, label:7 or tag:smiling.", rich_help_panel=ON_LATENTS
    ),
]
Minus = Annotated[
    str | None,
    typer.Option(help="arithmetic: samples without what is wanted of --plus.", rich_help_panel=ON_LATENTS),
]
To = Annotated[
    str | None,
    typer.Option(
        help="arithmetic: samples to give it to. interpolate: the ends. blend: the second pictures, ctrl-x: the "
        "appearance, each rows as in 4,5 or files."
    ),
]
Start = Annotated[str | None, typer.Option("--from", help="interpolate: the beginnings.", rich_help_panel=ON_LATENTS)]
Count = Annotated[
    int | None,
    typer.Option(
        "-n",
        "--count",
        min=1,
        help="How many picks, strips, walks or images (8), features (6), or results for each picture (4).",
        show_default=False,
    ),
]
Steps = Annotated[
    int, typer.Option(min=2, help="Images a strip; frames from stop to stop.", rich_help_panel=ON_LATENTS)
]
Way = Annotated[Literal["spherical", "linear"], typer.Option(help="Of interpolate.", rich_help_panel=ON_LATENTS)]
Box = Annotated[
    str | None,
    typer.Option(help="x0,y0,x1,y1 in pixels, as in 8,8,20,20: what filters leave out, what inpaint draws anew."),
]
Share = Annotated[
    float,
    typer.Option(help="filters: the share dropped of those that draw the box.", rich_help_panel=ON_LATENTS),
]
Images = Annotated[
    list[Path] | None,
    typer.Option(
        "--image",
        help="A picture, and again for more. It is what is to be restored, as it is.",
        rich_help_panel=ON_PICTURES,
    ),
]
HeldOut = Annotated[
    str | None,
    typer.Option(
        "--rows",
        help="Held-out rows of the data instead, as in 0,3,5 (0,1,2,3). They are made worse first, and shown last.",
        rich_help_panel=ON_PICTURES,
    ),
]
MaskFile = Annotated[
    Path | None,
    typer.Option("--mask", help="inpaint: a picture, white where it is drawn anew.", rich_help_panel=ON_PICTURES),
]
Label = Annotated[int | None, typer.Option(help="The class of the results.", rich_help_panel=ON_PICTURES)]
Other = Annotated[
    Path | None, typer.Option(help="guide method=autoguidance: a worse run.", rich_help_panel=ON_PICTURES)
]
OperatorFile = Annotated[
    str | None,
    typer.Option(
        "--operator",
        help="restore: FILE.py:NAME, a linear function of images [B, C, H, W]. A picture is what it left, where it "
        "leaves pictures of their size.",
        rich_help_panel=ON_PICTURES,
    ),
]
Seed = Annotated[int, typer.Option(help="Of all that is drawn; of features, of the untrained critic.")]
Out = Annotated[Path | None, typer.Option("-o", "--out", help="A .png; for a walk a .gif or .webp.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")]


def edit(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    tool: Tool,
    changes: Changes = None,
    plus: Plus = None,
    minus: Minus = None,
    to: To = None,
    start: Start = None,
    count: Count = None,
    steps: Steps = 9,
    path: Way = "spherical",
    box: Box = None,
    share: Share = 1.0,
    image: Images = None,
    rows: HeldOut = None,
    mask: MaskFile = None,
    label: Label = None,
    other: Other = None,
    operator: OperatorFile = None,
    seed: Seed = 0,
    out: Out = None,
    device: Device = "auto",
) -> None:
    from reverie.edit.asked import Asked
    from reverie.edit.draw import draw  # brings torch

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
        settings=tuple(changes or ()),
        images=tuple(image or ()),
        rows=rows,
        mask=mask,
        label=label,
        other=other,
        operator=operator,
    )
    print(draw(run, tool, asked, out=out, device=device, classify=lambda: _classifier(run), say=_say))


edit.__doc__ = """Move through latents (strips, arithmetic, walks), see what networks look at, and change pictures.

[bold]Latents.[/bold]

reverie edit runs/dcgan-digits picks -n 64

reverie edit runs/dcgan-digits interpolate --from 3,8 --to 5,1

reverie edit runs/vae-digits arithmetic --plus row:3 --minus row:8 --to 12

reverie edit runs/vae-digits arithmetic --plus label:3 --minus label:5 --to label:8

reverie edit runs/dcgan-digits walk -n 9 -o walk.gif

[bold]Networks.[/bold]

reverie edit runs/dcgan-digits features

reverie edit runs/dcgan-digits filters --box 8,8,20,20

[bold]Pictures, on any model that denoises[/bold] (of a file, or of held-out rows).

inpaint: what a box or a mask covers is drawn anew; method=repaint, moments or dps, resamplings=4 jump=5

    reverie edit RUN inpaint --image photo.png --box 8,8,20,20

upscale, colourise, deblur, restore: pictures that look like what is seen; method=moments or dps, factor=4, sigma=1.5

    reverie edit RUN upscale --image small.png factor=4

sdedit: strokes become a picture; strength=0 keeps them, 1 forgets them

    reverie edit RUN sdedit --image strokes.png strength=0.6

vary: other pictures near one; strength=0.3.  invert: its noise, and the picture from it again; solver=heun

    reverie edit RUN vary --rows 0,3,5 strength=0.4

blend: from one picture to another; stops=7

    reverie edit RUN blend --rows 0,1 --to 2,3

guide: samples without guidance and with; method=classifier-free, classifier or autoguidance, guidance=3 low=0 high=1

    reverie edit RUN guide guidance=4 low=0.2 high=0.8

control: the structure of a picture (FreeControl); structure=2 appearance=0.2.  ctrl-x: and the look of another one

    reverie edit RUN ctrl-x --rows 0 --to look.png

[bold]Tags[/bold] of pictures, on cgan-tags; top=5 draws=100

    reverie edit RUN tag --image photo.png
"""


def _say(note: str) -> None:
    print(note, file=sys.stderr)


def _classifier(run: Path) -> Callable[[Tensor], Tensor]:
    """The classifier of the run's classes that evaluation trains and keeps."""
    from reverie.core.errors import RequestError
    from reverie.core.run import Run
    from reverie.data.config import DataConfig
    from reverie.data.dataset import open_data
    from reverie.evaluation.features.classifier import trained_classifier

    data = open_data(DataConfig.read(Run.open(run).recipe.data, "data"))
    if not data.classes:
        raise RequestError("classifier guidance needs a run on data with classes")
    return trained_classifier(data, None, _say).network
