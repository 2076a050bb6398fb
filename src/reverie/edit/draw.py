"""What ``reverie edit`` writes: a run's latents by name, one of the tools, a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from reverie.core.errors import RequestError
from reverie.core.images import save_grid
from reverie.core.model import Model
from reverie.core.run import Run
from reverie.data.config import DataConfig
from reverie.data.dataset import open_data
from reverie.edit.arithmetic import arithmetic
from reverie.edit.interpolate import interpolate
from reverie.edit.latents import Latents, decoded, decoder, drawn, picked, read_picks
from reverie.edit.walk import KINDS, save_animation, walk
from reverie.training.build import load

TOOLS = ("picks", "interpolate", "arithmetic", "walk")


def draw(
    run: str | Path,
    tool: str,
    *,
    plus: str | None = None,
    minus: str | None = None,
    to: str | None = None,
    start: str | None = None,
    count: int = 8,
    steps: int = 9,
    path: str = "spherical",
    seed: int = 0,
    out: Path | None = None,
    device: str = "auto",
) -> Path:
    """Writes a picture or an animation of a run's latents.

    Latents are named as in ``3,5`` (samples by number, as the tool ``picks`` shows them, eight a row) or ``row:3``
    (training rows, of a model with an encoder).

    Arguments:
        run: a run folder.
        tool: ``picks``, ``interpolate``, ``arithmetic`` or ``walk``.
        plus: of arithmetic, a.
        minus: of arithmetic, b.
        to: of arithmetic, c; of interpolation, the ends.
        start: of interpolation, the beginnings.
        count: picks, strips or walks, where they are not named.
        steps: images a strip, or frames from stop to stop.
        path: of interpolation, ``spherical`` or ``linear``.
        seed: of the samples.
        out: the file; named after the tool where None.
        device: where to compute.

    Returns:
        The file.

    Raises:
        RequestError: the model has no latents or no images, or what is asked for does not fit together.
    """
    if tool not in TOOLS:
        raise RequestError(f"no tool '{tool}'; known: {', '.join(TOOLS)}")
    model = load(run, device)
    decoder(model)
    if not model.space.is_image:
        raise RequestError("edit draws images; this model's rows are points")
    out = out or Path(f"{tool}.{'gif' if tool == 'walk' else 'png'}")
    kinds = KINDS if tool == "walk" else (".png",)
    if out.suffix.lower() not in kinds:
        raise RequestError(f"{out.name}: {tool} writes a {' or a '.join(kinds)} file")
    scale = max(1, 64 // max(model.space.shape[1:]) + 1)  # how many pixels wide a pixel is shown
    if tool == "walk":
        save_animation(walk(model, steps=steps, walkers=count, seed=seed), out, scale)
    elif tool == "picks":
        save_grid(decoded(model, drawn(model, range(count), seed)), out, 8, scale)
    else:
        x, columns = _strips_or_sum(_picker(run, model, seed), model, tool, plus, minus, to, start, count, steps, path)
        save_grid(x, out, columns, scale)
    return out


def _strips_or_sum(
    pick: Callable[[str], Latents],
    model: Model,
    tool: str,
    plus: str | None,
    minus: str | None,
    to: str | None,
    start: str | None,
    count: int,
    steps: int,
    path: str,
) -> tuple[Tensor, int]:
    """Images, and how many stand in a row."""
    if tool == "interpolate":
        one, two = pick(start or _numbers(0, count)), pick(to or _numbers(count, 2 * count))
        if len(one[0]) != len(two[0]):
            raise RequestError(f"{len(one[0])} beginnings and {len(two[0])} ends: name as many of both")
        return interpolate(model, one, two, steps=steps, path=path), steps
    if not (plus and minus and to):
        raise RequestError("arithmetic needs --plus, --minus and --to, numbers of samples as `picks` shows them")
    return arithmetic(model, pick(plus), pick(minus), pick(to)), 4


def _picker(run: str | Path, model: Model, seed: int) -> Callable[[str], Latents]:
    """From text such as ``3,row:5`` to latents; the data are opened where a row is asked for."""

    def pick(text: str) -> Latents:
        picks = read_picks(text)
        asked = any(pick.row for pick in picks)
        rows = open_data(DataConfig.read(Run.open(run).recipe.data, "data")).train if asked else None
        return picked(model, picks, seed, rows)

    return pick


def _numbers(start: int, stop: int) -> str:
    return ",".join(map(str, range(start, stop)))
