"""What ``reverie edit`` writes: a run's model, one of the tools, a file."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reverie.core.errors import RequestError, nearest
from reverie.core.files import check_file
from reverie.core.images import save_grid
from reverie.core.model import Model
from reverie.core.recipe import parse_change
from reverie.core.run import Run
from reverie.core.sampling import check_finite
from reverie.core.space import Space
from reverie.data.config import DataConfig
from reverie.data.dataset import open_data
from reverie.edit import reading
from reverie.edit.asked import Asked
from reverie.edit.latents import decoder
from reverie.edit.model_tools import SHEETS
from reverie.edit.scatter import reach, scatter
from reverie.edit.seen import seen
from reverie.edit.sheet import Sheet
from reverie.edit.tagging import write_tags
from reverie.edit.task import Classify, Settings, Task, denoiser, find_tool, tools
from reverie.edit.walk import KINDS, save_animation, walk
from reverie.training.build import load

PICTURES = 4
"""Held-out rows that a tool works on where none are named."""
ON_POINTS = ("picks", "interpolate", "arithmetic", "walk")
UNGUIDED = ("blend", "invert", "vary")
BEHIND = 3000
"""Rows of the data behind points."""


def draw(
    run: str | Path,
    tool: str,
    asked: Asked | None = None,
    *,
    out: Path | None = None,
    device: str = "auto",
    classify: Classify | None = None,
    say: Callable[[str], None] = lambda note: None,
) -> Path:
    """Writes a picture or an animation: of what a run's model has learned, or of pictures that it changed.

    Arguments:
        run: a run folder.
        tool: ``walk``, ``tag``, a name in ``SHEETS``, or a file of ``edit/pictures/``.
        asked: what is asked of the tool; the defaults where None.
        out: the file; named after the tool where None.
        device: where to compute.
        classify: makes a classifier of the run's classes, for guidance by it.
        say: called with what was done to pictures from files.

    Returns:
        The file.

    Raises:
        RequestError: the model has not what the tool looks at, or what is asked for does not fit together.
        ReverieError: guidance blows up, and the message names the setting and the step; or the model broke.
    """
    known = (*SHEETS, "walk", "tag", *tools())
    if tool not in known:
        raise RequestError(f"no tool '{tool}'{nearest(tool, known)}")
    asked = asked or Asked()
    asked.check(tool)
    model = load(run, device)
    if tool == "tag":
        return write_tags(Run.open(run), model, asked, _file(tool, out, (".png",)), say)
    if tool in tools():
        denoiser(model)
    elif tool != "features":
        decoder(model)
    if not model.space.is_image and (tool not in ON_POINTS or model.space.size != 2):
        raise RequestError(
            f"{tool} looks at images; this model's rows are points of {model.space.size} dimensions. "
            f"Of points of 2 there are {', '.join(ON_POINTS)}"
        )
    out = _file(tool, out, KINDS if tool == "walk" else (".png",))
    opened = Run.open(run)
    if not model.space.is_image:
        return _draw_points(opened, model, tool, asked, out, classify)
    scale = max(1, 64 // max(model.space.shape[1:]) + 1)  # how many pixels wide a pixel is shown
    if tool == "walk":
        save_animation(walk(model, steps=asked.steps, walkers=asked.number, seed=asked.seed), out, scale)
        return out
    if tool in SHEETS:
        sheet = SHEETS[tool](opened, model, asked, classify)
    else:
        sheet = pictured(opened, model, tool, asked, device, classify, say)
    check_finite(sheet.x, "pictures")
    save_grid(sheet.x, out, min(sheet.columns, len(sheet.x)), scale)
    return out


def _draw_points(run: Run, model: Model, tool: str, asked: Asked, out: Path, classify: Classify | None) -> Path:
    """What ``draw`` does on points of a plane: a picture of them, or an animation, over those of the data."""
    behind = torch.empty(0, 2)
    with suppress(RequestError):  # of a source that is gone
        rows = open_data(DataConfig.read(run.recipe.data, "data")).train
        behind = rows.take(np.arange(min(BEHIND, len(rows))))[0]
    if tool == "walk":
        frames = torch.stack(walk(model, steps=asked.steps, walkers=asked.number, seed=asked.seed))
        limit = reach(frames, behind)
        save_animation([scatter(frame[:, None], behind, limit=limit) for frame in frames], out)
        return out
    sheet = SHEETS[tool](run, model, asked, classify)
    groups = sheet.x.view(-1, sheet.columns, 2) if tool == "interpolate" else sheet.x[:, None]
    names = {"arithmetic": ["a", "b", "c", "a - b + c"], "picks": [str(i) for i in range(len(sheet.x))]}.get(tool, [])
    save_grid(scatter(groups, behind, joined=tool == "interpolate", names=names), out)
    return out


def _file(tool: str, out: Path | None, kinds: tuple[str, ...]) -> Path:
    """The file that a tool writes: the one named, which must be of its kinds, or one named after the tool."""
    out = out or Path(f"{tool}{'.gif' if '.gif' in kinds else '.png'}")
    check_file(out, kinds, tool)
    return out


def pictured(
    run: Run,
    model: Model,
    tool: str,
    asked: Asked,
    device: str,
    classify: Classify | None,
    say: Callable[[str], None],
) -> Sheet:
    """What a tool on pictures draws. Arguments as in ``draw``."""
    module = find_tool(tool)
    settings = module.Settings.read(dict(map(parse_change, asked.settings)), "")
    space, place = model.space, next(model.parameters()).device
    if tool in UNGUIDED and settings.guidance != 1:
        raise RequestError(f"{tool} goes to noise and back without guidance: leave guidance={settings.guidance:g} out")
    if tool != "guide" and settings.guidance != 1 and asked.label is None:
        raise RequestError(f"guidance={settings.guidance:g} is towards a class: name it, as in --label 0")
    if asked.label is not None and not 0 <= asked.label < space.classes:
        raise RequestError(
            f"there is no class {asked.label}; this model has {space.classes or 'none: it was trained without labels'}"
        )
    x = (torch.zeros(1, *space.shape) if tool == "guide" else _pictures(run, space, asked, settings, say)).to(place)
    maps = seen(run, model, tool, x, None if asked.images else _numbers(asked), asked.seed)
    task = Task(
        model=model,
        x=x,
        maps=None if maps is None else maps.to(place),
        count=asked.count or (8 if tool == "guide" else 4),
        given=bool(asked.images),
        label=asked.label,
        known=_known(space, asked, place),
        others=None if asked.to is None else _second(run, space, asked.to, say).to(place),
        worse=None if asked.other is None else load(asked.other, device),
        operator=None if asked.operator is None else reading.read_function(asked.operator),
        classify=classify,
        seed=asked.seed,
    )
    sheet: Sheet = module.draw(task, settings)
    return sheet


def _pictures(run: Run, space: Space, asked: Asked, settings: Settings, say: Callable[[str], None]) -> Tensor:
    if not asked.images:
        return reading.read_rows(run, _numbers(asked))
    if asked.rows is not None:
        raise RequestError("name --image files or --rows of the data, not both")
    return _read(run, asked.images, space, say, getattr(settings, "factor", None))


def _numbers(asked: Asked) -> list[int]:
    return list(range(PICTURES)) if asked.rows is None else reading.read_numbers(asked.rows)


def _second(run: Run, space: Space, text: str, say: Callable[[str], None]) -> Tensor:
    parts = [part.strip() for part in text.split(",")]
    if all(part.isdecimal() for part in parts):
        return reading.read_rows(run, reading.read_numbers(text))
    return _read(run, tuple(map(Path, parts)), space, say)


def _read(
    run: Run, files: tuple[Path, ...], space: Space, say: Callable[[str], None], factor: int | None = None
) -> Tensor:
    x, notes = reading.read_pictures(files, space, run.recipe.data["background"], factor)
    for note in notes:
        say(note)
    return x


def _known(space: Space, asked: Asked, place: torch.device) -> Tensor | None:
    if asked.mask is not None and asked.box is not None:
        raise RequestError("name a --mask file or a --box, not both")
    if asked.mask is not None:
        return reading.read_mask(asked.mask, space).to(place)
    return None if asked.box is None else reading.outside(asked.box, space).to(place)
