"""A student: a denoiser that begins as its teacher.

What learns to do in few steps what a teacher does in many starts best from the teacher's own weights. The teacher is
known by what it does (``Denoises``) alone, so the student is a copy of the whole of it, whichever network, path and
prediction are inside.

References:
    | Progressive Distillation for Fast Sampling of Diffusion Models (Salimans and Ho, 2022), Algorithm 2
    | https://arxiv.org/abs/2202.00512
    | Consistency Models (Song, Dhariwal, Chen and Sutskever, 2023), Appendix C
    | https://arxiv.org/abs/2303.01469
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises, Path, Posterior
from reverie.core.errors import RequestError
from reverie.core.model import Model, Part
from reverie.core.space import Space


class Student(nn.Module):
    """Creates a denoiser that is its teacher, free to change.

    Arguments:
        teacher: a model that denoises.
    """

    def __init__(self, teacher: Model) -> None:
        super().__init__()
        self.model = copy.deepcopy(teacher)
        for module in self.learners():
            module.requires_grad_(True)

    @property
    def path(self) -> Path:
        return denoiser(self.model).path

    @property
    def space(self) -> Space:
        return denoiser(self.model).space

    def learners(self) -> list[nn.Module]:
        """The modules that learn: all that its samples come from but the path, along which it is asked."""
        return [module for module in self.model.averaged() if module is not self.path]

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Posterior:
        return denoiser(self.model).denoise(x_t, t, condition)

    def enter(self, x: Tensor) -> Tensor:
        return denoiser(self.model).enter(x)

    def leave(self, z: Tensor) -> Tensor:
        return denoiser(self.model).leave(z)


def denoiser(model: Model) -> Denoises:
    """The model as one that denoises.

    Raises:
        RequestError: it does not.
    """
    found = model.view(Denoises)
    if found is None:
        raise RequestError(f"the teacher is a {type(model).__name__}, which does not denoise; take one that does")
    return found


def find_teacher(parts: Mapping[str, Part], space: Space) -> Part | None:
    """The run that a recipe's ``teacher`` names, None where it names none.

    Raises:
        RequestError: it does not denoise, or not rows like these.
    """
    part = parts.get("teacher")
    if part is None:
        return None
    known = denoiser(part.model).space
    if known.shape != space.shape:
        raise RequestError(f"the teacher knows rows of shape {list(known.shape)}, the data have {list(space.shape)}")
    if known.classes not in (0, space.classes):
        raise RequestError(f"the teacher knows {known.classes} classes, the data have {space.classes}")
    if known.maps != space.maps and part.model.maps_optional:
        raise RequestError("the teacher learned to be controlled by maps, and nothing else: teach with its base")
    if known.maps != space.maps:
        raise RequestError(_differ("maps of {} channels", "maps", known.maps, space.maps))
    if known.sequence != space.sequence:
        raise RequestError(_differ("sequences of {} values", "sequences", known.sequence, space.sequence))
    return part


def taught_space(part: Part, space: Space) -> Space:
    """What a sample of the student is: without labels where its teacher knows none."""
    return replace(space, classes=denoiser(part.model).space.classes)


def _differ(some: str, none: str, known: int, given: int) -> str:
    teacher, data = (some.format(count) if count else f"no {none}" for count in (known, given))
    return f"the teacher draws from {teacher}, the data have {data}: take such data as it was trained on"
