"""What is asked of a tool of ``reverie edit``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from reverie.core.errors import RequestError
from reverie.edit.task import tools

CHANGING = tuple(tool for tool in tools() if tool != "guide")
"""Tools that change pictures."""
RESULTS = tuple(tool for tool in CHANGING if tool not in ("blend", "invert"))
READ_BY: Mapping[str, Collection[str]] = {
    "plus": ("arithmetic",),
    "minus": ("arithmetic",),
    "to": ("arithmetic", "interpolate", "blend", "ctrl-x"),
    "start": ("interpolate",),
    "count": ("picks", "interpolate", "walk", "features", "filters", "guide", "tag", *RESULTS),
    "steps": ("interpolate", "walk"),
    "path": ("interpolate",),
    "box": ("filters", "inpaint"),
    "share": ("filters",),
    "images": (*CHANGING, "tag"),
    "rows": (*CHANGING, "tag"),
    "mask": ("inpaint",),
    "label": (*CHANGING, "guide"),
    "other": ("guide",),
    "operator": ("restore",),
}
"""Which tools read what; the rest is read by all, or told apart where it is read."""
MOST = 10_000
"""Of pictures that are asked for on one sheet, and of those in a strip."""
OPTIONS: Mapping[str, str] = {"start": "from", "images": "image"}
"""Options of the command line that are called otherwise."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of a tool; each reads what concerns it.

    Latents are named as in ``3,5`` (samples by number, as the tool ``picks`` shows them, eight a row), ``row:3``
    (training rows, of a model with an encoder), ``label:3`` or ``tag:smiling`` (the mean of a class or of a tag).

    Arguments:
        plus: of arithmetic, a.
        minus: of arithmetic, b.
        to: of arithmetic, c; of interpolation, the ends; of tools on pictures, second ones:
            rows as in ``4,5``, or files.
        start: of interpolation, the beginnings.
        count: picks, strips, walks, images or rows to tag, where they are not named, features, or results a picture;
            None for 8, 6 features, and 4 results.
        steps: images a strip, or frames from stop to stop.
        path: of interpolation, ``spherical`` or ``linear``.
        box: x0,y0,x1,y1 in pixels: what filters are to leave out; what inpainting draws anew.
        share: of filters, how much of those that draw the box is dropped.
        seed: of the samples; of features, of the weights of the random network; of tools on pictures, of all noise.
        settings: of tools on pictures and of ``tag``, ``key=value`` each.
        images: files of pictures.
        rows: held-out rows, by number, where there are no files; the first few where None.
        mask: a file, white where it is to be drawn anew.
        label: the class of results.
        other: another run, for autoguidance.
        operator: ``FILE.py:NAME``, a function of images.
    """

    plus: str | None = None
    minus: str | None = None
    to: str | None = None
    start: str | None = None
    count: int | None = None
    steps: int = 9
    path: str = "spherical"
    box: str | None = None
    share: float = 1.0
    seed: int = 0
    settings: tuple[str, ...] = ()
    images: tuple[Path, ...] = ()
    rows: str | None = None
    mask: Path | None = None
    label: int | None = None
    other: Path | None = None
    operator: str | None = None

    @property
    def number(self) -> int:
        return 8 if self.count is None else self.count

    def check(self, tool: str) -> None:
        """Refuses too much, and what a tool would not look at, so that nobody takes a setting for one that was heeded.

        Raises:
            RequestError: something is set that the tool does not read, or more is asked for than a sheet holds.
        """
        if self.settings and tool not in (*CHANGING, "guide", "tag"):
            raise RequestError(f"{tool} takes options only, no '{self.settings[0]}'")
        for name, value in (("count", self.number), ("steps", self.steps)):
            if not 1 <= value <= MOST:
                raise RequestError(f"--{name} {value}: write 1 to {MOST:,}")
        for field in fields(self):
            value = getattr(self, field.name)
            if value == field.default or tool in READ_BY.get(field.name, (tool,)):
                continue
            instead = f": write steps={value}" if field.name == "steps" and tool in (*CHANGING, "guide") else ""
            others = f", which is for {', '.join(READ_BY[field.name])}"
            option = OPTIONS.get(field.name, field.name)
            raise RequestError(f"{tool} does not use --{option}{instead or (others + ': leave it out')}")
