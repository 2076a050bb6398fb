r"""Consistency models: a network takes any point of a flow to the flow's end, in one step.

.. math:: f_\theta(x_0 + \sigma \epsilon, \sigma) \approx f_{\theta^-}(\hat x, \sigma'), \quad \sigma' < \sigma

Two neighbouring points of one path must be taken to the same end; the end itself is where it is. What the nearer
point is makes the two kinds:

- **trained alone**, it is :math:`x_0 + \sigma' \epsilon`, with the same noise. This follows the improved techniques:
  noise levels that are log-normal, ever more of them, the pseudo-Huber distance, weights
  :math:`1 / (\sigma - \sigma')`, and the network itself, without gradient, as its target: a lagging target, the
  first paper's, was shown there to leave a bias that does not vanish as the levels grow dense.
- **distilled**, a solver's step takes the farther point to it along the teacher's flow. This follows the first
  paper: few levels, evenly drawn, and a target that lags. The distance is the pseudo-Huber one here too, which needs
  no network of features.

Code (paper): ``sigma`` (t), ``x`` = x_0 + sigma eps (x_t), ``levels`` (t_1 … t_N), ``sigma_min, sigma_max``
(epsilon, T).

References:
    | Consistency Models (Song, Dhariwal, Chen and Sutskever, 2023)
    | https://arxiv.org/abs/2303.01469
    | Improved Techniques for Training Consistency Models (Song and Dhariwal, 2024)
    | https://arxiv.org/abs/2310.14189
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from reverie.core import catalog
from reverie.core import model as core
from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises
from reverie.core.choice import Choice, auto
from reverie.core.errors import RequestError
from reverie.core.noise import Noise
from reverie.core.player import Loss, OptimizerConfig, Player, Turn
from reverie.core.space import Space
from reverie.maths.consistency import (
    curriculum,
    lognormal_shares,
    noise_levels,
    pick,
    pseudo_huber,
    squared,
    to_the_end,
)
from reverie.maths.paths import per_row
from reverie.maths.times import MOST_STEPS, even
from reverie.nn.lagging import Lagging
from reverie.nn.preconditioned import Preconditioned
from reverie.nn.student import Student, denoiser, find_teacher, taught_space
from reverie.samplers.conversion import straightened
from reverie.samplers.guidance.classifier_free import ClassifierFree, drop_labels
from reverie.samplers.guidance.clip import clipped
from reverie.samplers.heun import Heun
from reverie.samplers.solver import BothWays


class Sampling(core.Sampling):
    """How samples are drawn.

    Arguments:
        steps: network evaluations; each but the first adds noise to an end and takes it there again.
        last: how much noise the last one adds; those between lie evenly in the logarithm.
    """

    steps: int = Field(2, ge=1, le=MOST_STEPS)
    last: float = Field(0.8, gt=0)


class Config(core.ModelConfig):
    """The model's configuration.

    Arguments:
        network: the consistency function's, where it is trained alone; distilled, it is a copy of the teacher.
        sigma_min: where paths end; images are taken as having so much noise.
        sigma_max: where they start.
        sigma_data: the data's standard deviation, for the network's factors.
        intervals: between levels of noise: how many at first, and at last; they double in between.
        distance: of two ends.
        location, scale: of the logarithm of the noise trained at, trained alone.
        solver: distilled, the solver whose step follows the teacher, without noise and in one step.
        decay: distilled, mu: how much of the target is left after a round.
        guidance: distilled, classifier-free guidance of the teacher, which the student then has for good.
        drop_label: the share of labels dropped in training, so that it can draw without one.
        optimizer: how the network steps.
        sampling: how samples are drawn.
    """

    network: Choice = Choice(name="auto")
    sigma_min: float = Field(0.002, gt=0)
    sigma_max: float = Field(80.0, gt=0)
    sigma_data: float = Field(0.5, gt=0)
    intervals: tuple[int, int] = (10, 1280)
    distance: Literal["pseudo-huber", "squared"] = "pseudo-huber"
    location: float = -1.1
    scale: float = Field(2.0, gt=0)
    solver: BothWays = Heun()
    decay: float = Field(0.95, ge=0, lt=1)
    guidance: float = Field(1.0, ge=0)
    drop_label: float = Field(0.1, ge=0, le=1)
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-3, warmup=100, clip=1.0)
    sampling: Sampling = Sampling()


class Consistency(core.Model):
    """Creates a consistency model: trained alone, or distilled from ``teacher``.

    Arguments:
        config: its configuration.
        space: what one row is.
        parts: ``teacher``, any model that denoises, or none.

    Raises:
        RequestError: rows are integers, levels of noise do not rise, or the teacher is of other rows.
    """

    config: Config
    takes: ClassVar[tuple[str, ...]] = ("teacher",)
    networks: ClassVar[dict[str, tuple[str, Choice]]] = {"network": ("denoiser", auto("unet"))}

    def __init__(self, config: Config, space: Space, parts: Mapping[str, core.Part]) -> None:
        super().__init__(config, space, parts)
        if space.levels is not None:
            raise RequestError("a consistency model needs continuous rows, not integers")
        if config.sigma_min >= config.sigma_max:
            raise RequestError(f"sigma_min = {config.sigma_min} must be less than sigma_max = {config.sigma_max}")
        first, last = config.intervals
        if not 1 <= first <= last:
            raise RequestError(f"intervals = [{first}, {last}] must not fall, nor begin below 1")
        self.teacher = find_teacher(parts, space)
        self.student: Student | Preconditioned
        if self.teacher is not None:
            self.space = taught_space(self.teacher, space)
            self.student = Student(self.teacher.model)
            self.target = Lagging(self.student)
            self.solver = config.solver
        else:
            role, choice = self.networks["network"]
            network = catalog.network(role, config.network, space, choice)
            self.student = Preconditioned(network, space, config.sigma_data)
        self.latents = (Space(space.shape),)

    def players(self) -> Sequence[Player]:
        player = Player(
            name="student",
            modules=self.averaged(),
            loss=self.loss,
            optimizer=self.config.optimizer,
            after_turn=self._follow if self.teacher is not None else None,
        )
        return (player,)

    def averaged(self) -> Sequence[nn.Module]:
        return self.student.learners() if isinstance(self.student, Student) else (self.student.network,)

    def loss(self, turn: Turn) -> Loss:
        """Consistency distillation (Song et al., Equation 7) or training (Song and Dhariwal, Section 3).

        Weighted as there, and by the root of the number of values: pseudo-Huber is then alike for rows of all sizes.
        """
        x_0, config = turn.batch.x, self.config
        levels = self.levels(curriculum(turn.progress.fraction, *config.intervals)).to(x_0.device)
        near = self._interval(turn.noise.ids, levels)
        sigma, sigma_near = (levels[i].to(x_0.dtype) for i in (near + 1, near))
        eps = turn.noise.fork("eps").normal(*self.space.shape)
        condition = drop_labels(turn.batch.condition, turn.noise.fork("drop"), config.drop_label)
        x = x_0 + per_row(sigma, x_0) * eps
        with torch.no_grad():
            if self.teacher is None:
                target = self._ends(self.student, x_0 + per_row(sigma_near, x_0) * eps, sigma_near, condition)
            else:
                x_near = self._follow_teacher(x, sigma, sigma_near, condition, turn.noise.fork("solver"))
                target = self._ends(self.target.module, x_near, sigma_near, condition)
        distance = pseudo_huber if config.distance == "pseudo-huber" else squared
        apart = distance(self._ends(self.student, x, sigma, condition), target) * self.space.size**-0.5
        figures = {"apart": apart.detach().mean()}
        if self.teacher is None:
            apart = apart / (sigma - sigma_near)
        return Loss(terms={"consistency": apart.mean()}, figures=figures)

    def levels(self, intervals: int) -> Tensor:
        """The rising levels of noise that many intervals lie between, float64 ``[intervals + 1]``."""
        return noise_levels(intervals + 1, self.config.sigma_min, self.config.sigma_max)

    def consistent(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        """f: where the flow through x ``[B, ...]`` at noise sigma ``[B]`` ends, ``[B, ...]``."""
        return self._ends(self.student, x, sigma, condition)

    def sample(self, noise: Noise, condition: Condition | None = None, how: Sampling | None = None) -> Tensor:
        """Multistep consistency sampling (Song et al., Algorithm 1)."""
        how = how or self.config.sampling
        config = self.config
        x = self._start(noise.normal(*self.space.shape), condition)
        for level in self._sampled_levels(how)[1:]:
            added = (level**2 - config.sigma_min**2) ** 0.5 * noise.normal(*self.space.shape)
            x = self._bounded(self.consistent(x + added, x.new_full((len(x),), level), condition))
        return x

    def decode(self, z: tuple[Tensor, ...]) -> Tensor:
        """The end of the flow that starts at standard normal z, in one step."""
        return self._start(z[0], None)

    def _start(self, z: Tensor, condition: Condition | None) -> Tensor:
        sigma = self.config.sigma_max
        return self._bounded(self.consistent(sigma * z, z.new_full((len(z),), sigma), condition))

    def _bounded(self, x: Tensor) -> Tensor:
        return x.clamp(-1, 1) if self.space.depth else x

    def _sampled_levels(self, how: Sampling) -> list[float]:
        """The noise of each evaluation, each a level that was trained in the end."""
        most, least = self.config.sigma_max, how.last
        asked = [most * (least / most) ** (k / max(how.steps - 1, 1)) for k in range(how.steps)]
        trained = self.levels(self.config.intervals[1])[1:]
        return [float(trained[(torch.log(trained) - math.log(level)).abs().argmin()]) for level in asked]

    def _interval(self, ids: Tensor, levels: Tensor) -> Tensor:
        """Which interval each row is trained at, ``[B]``."""
        u = even(ids)
        if self.teacher is None:
            return pick(u, lognormal_shares(levels, self.config.location, self.config.scale))
        return (u * (len(levels) - 1)).long().clamp(max=len(levels) - 2)

    def _ends(self, model: Denoises, x: Tensor, sigma: Tensor, condition: Condition | None) -> Tensor:
        rows = per_row(sigma, x)
        mean = straightened(model).denoise(x / (1 + rows), sigma / (1 + sigma), condition).mean
        return to_the_end(mean, x, rows, self.config.sigma_min)

    def _follow_teacher(
        self, x: Tensor, sigma: Tensor, sigma_near: Tensor, condition: Condition | None, noise: Noise
    ) -> Tensor:
        """The point at sigma_near on the teacher's path through x at sigma, by one step of the solver."""
        assert self.teacher is not None
        teacher = denoiser(self.teacher.model)
        teacher = ClassifierFree(teacher, self.config.guidance) if self.space.classes else teacher
        teacher = straightened(clipped(teacher, self.space))
        r, r_near = sigma / (1 + sigma), sigma_near / (1 + sigma_near)
        z, state = x / per_row(1 + sigma, x), self.solver.init(x)
        z, _ = self.solver.step(teacher, z, r, r_near, condition, noise, state)
        return z * per_row(1 + sigma_near, x)

    def _follow(self, loss: Loss) -> None:
        self.target.follow(self.student, self.config.decay)
