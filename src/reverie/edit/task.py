"""What a tool on pictures is given: a model that denoises, pictures, what is known of them, and noise."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from pydantic import Field
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises, Steers
from reverie.core.errors import RequestError, ReverieError, nearest
from reverie.core.model import Model
from reverie.core.noise import KeyedNoise, Noise
from reverie.core.strict import Strict
from reverie.maths.paths import prior_scale, ticks
from reverie.maths.times import MOST_STEPS, Grid, grid
from reverie.samplers.guidance.classifier_free import ClassifierFree
from reverie.samplers.guidance.clip import Clip
from reverie.samplers.guidance.free_control import features
from reverie.samplers.integrate import Frame, Watch, integrate
from reverie.samplers.solver import Solver

FOLDER = Path(__file__).parent / "pictures"
Classify = Callable[[], Callable[[Tensor], Tensor]]
"""Makes a classifier: from images ``[B, C, H, W]`` to logits ``[B, classes]``, differentiable."""


class Settings(Strict):
    """What every tool on pictures can be told.

    Arguments:
        steps: from noise to a picture.
        grid: how the steps' times are spread: ``even``, ``log-snr`` or ``karras``.
        guidance: classifier-free guidance towards ``--label``; 1 is the conditional model itself.
    """

    steps: int = Field(50, ge=1, le=MOST_STEPS)
    grid: Grid = "even"
    guidance: float = Field(1.0, ge=0)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One request.

    Arguments:
        model: the run's model.
        x: pictures ``[N, C, H, W]`` in [-1, 1], on the model's device.
        count: results for each picture.
        given: whether the pictures came from files: these are to be restored as they are, rows are made worse first.
        label: the class of the results; None for whatever the model likes.
        maps: the pictures' own ``[N, maps, H, W]``, for models that draw from maps; None for others.
        known: bool ``[H, W]``, the pixels that stay as they are; None without a mask.
        others: second pictures ``[M, C, H, W]``, where a tool takes them.
        worse: a worse model, for autoguidance.
        operator: the user's own, for restoring.
        classify: makes a classifier of the run's classes.
        seed: of all noise.
    """

    model: Model
    x: Tensor
    count: int = 1
    given: bool = False
    label: int | None = None
    maps: Tensor | None = None
    known: Tensor | None = None
    others: Tensor | None = None
    worse: Model | None = None
    operator: Callable[[Tensor], Tensor] | None = None
    classify: Classify | None = None
    seed: int = 0

    @property
    def denoises(self) -> Denoises:
        return denoiser(self.model)

    @property
    def steers(self) -> Steers:
        """The model as one whose features can be looked at.

        Raises:
            RequestError: they cannot.
        """
        found = self.model.view(Steers)
        if found is None:
            raise RequestError("this model does not show its network's features, which the tool works on")
        return found

    @property
    def rows(self) -> int:
        """Results in all."""
        return len(self.x) * self.count

    @property
    def repeated(self) -> Tensor:
        """Each picture ``count`` times, where the model denoises: ``[rows, ...]``."""
        return self.denoises.enter(self.x).repeat_interleave(self.count, 0)

    @property
    def later_maps(self) -> tuple[int, ...]:
        """The numbers of the feature maps in the second half of the network, past its middle, without the last.

        There a U-Net draws, and its features tell what lies where; the last knows pixels alone.

        Raises:
            RequestError: there are too few.
        """
        x = self.repeated[:1]
        with torch.no_grad():
            count = len(features(self.steers, self.denoises, x, x.new_full((1,), 0.5), self.condition(1)))
        if count < 5:
            raise RequestError(f"the model's network has {count} feature maps; the tool needs at least 5")
        return tuple(range(count // 2 + 1, count - 1))

    def noise(self, stream: str) -> Noise:
        """Noise for each result; it depends on the seed and the result's place alone."""
        return KeyedNoise(self.seed, torch.arange(self.rows, device=self.x.device), stream)

    def normal(self, stream: str) -> Tensor:
        """Standard normals where the model denoises, ``[rows, ...]``."""
        return self.noise(stream).normal(*self.repeated.shape[1:])

    def start(self) -> Tensor:
        """Where sampling starts, at t = 1, ``[rows, ...]``."""
        return prior_scale(self.denoises.path, self.x.device) * self.normal("start")

    def times(self, settings: Settings, start: float = 1.0) -> list[float]:
        """Times from ``start`` down to 0: of so many steps from 1 those that lie there.

        Raises:
            RequestError: there are more steps than the path has.
        """
        path = self.denoises.path
        return [start, *(t for t in grid(settings.grid, settings.steps, path, ticks(path)) if t < start)]

    def condition(self, rows: int | None = None) -> Condition:
        """The class asked for, or none, for each result, and its picture's map where the model draws from maps."""
        rows = rows or self.rows
        image = None if self.maps is None else self.maps.repeat_interleave(rows // len(self.x), 0)
        if not self.model.space.classes:
            return Condition(image=image)
        label = -1 if self.label is None else self.label
        return Condition(label=torch.full((rows,), label, device=self.x.device), image=image)

    def guided(self, guidance: float, model: Denoises | None = None) -> Denoises:
        """The model, perhaps wrapped in something, with classifier-free guidance where a class is asked for."""
        model = model or self.denoises
        return model if self.label is None else ClassifierFree(model, guidance)

    def clipped(self, model: Denoises) -> Denoises:
        """A denoiser whose estimates stay among pictures."""
        return Clip(model) if self.model.space.depth and self.repeated.shape[1:] == self.model.space.shape else model

    def results(self, z: Tensor) -> Tensor:
        """Rows ``[rows, ...]`` where the model denoises as pictures ``[N, count, C, H, W]``."""
        return self.denoises.leave(z).unflatten(0, (len(self.x), self.count))


def denoiser(model: Model) -> Denoises:
    """The model as one that denoises.

    Raises:
        RequestError: it does not, or does not draw images.
    """
    found = model.view(Denoises)
    if found is None:
        raise RequestError("this model does not denoise: the tool needs a diffusion or a flow-matching model")
    if not model.space.is_image:
        raise RequestError(
            "the tool changes images, and this model's rows are points: try picks, interpolate, arithmetic or walk"
        )
    return found


def solve(
    model: Denoises,
    solver: Solver,
    x: Tensor,
    times: Sequence[float],
    noise: Noise,
    condition: Condition,
    watch: Watch | None = None,
) -> Tensor:
    """``integrate`` without gradients.

    Raises:
        ReverieError: samples blow up; the message names the setting, where one is known, and the step.
    """

    def check(frame: Frame) -> bool | None:
        if not bool(frame.x_t.isfinite().all()):
            raise ReverieError(f"samples blow up at step {frame.step} of {frame.steps}: they are no longer finite")
        return None if watch is None else watch(frame)

    with torch.no_grad():
        return integrate(model, solver, x, times, noise, condition, check)


def tools() -> dict[str, str]:
    """Tools on pictures, by name: files of ``edit/pictures/``, hyphens for underscores, and their modules."""
    files = sorted(file for file in FOLDER.glob("*.py") if not file.stem.startswith("_"))
    return {file.stem.replace("_", "-"): f"reverie.edit.pictures.{file.stem}" for file in files}


def find_tool(name: str) -> ModuleType:
    """The module of a tool on pictures.

    Raises:
        RequestError: there is none.
    """
    known = tools()
    if name not in known:
        raise RequestError(f"no tool '{name}'{nearest(name, known)}")
    return importlib.import_module(known[name])
