r"""Reflow: flow matching on pairs of noise and what a teacher's flow makes of it, which straightens the flow.

.. math:: L = E_t E_{(x_0, x_1)} \lVert u_\theta(x_t, t) - (x_1 - x_0) \rVert^2, \quad
    x_t = (1 - t) x_0 + t x_1, \quad x_0 = \text{ODE}(x_1)

Lines between pairs of one flow cross far less than lines between any row and any noise, so there is little to average
over, and one or two steps of Euler's go a long way. Each time a reflow is the next one's teacher, paths get straighter
(``reverie evaluate`` tells how straight: S(Z)).

Pairs are costly, so each round makes only a batch's worth divided by ``reuse``, by ``pair_steps`` steps of Heun's
method; a batch is drawn from the latest ``memory`` pairs, so that a pair is trained on ``reuse`` times on average (the
first ones more often, while there are few), each time at another t.

What is left to lose in K steps is won back by training those alone (the paper's distillation, which has K = 1): with
``times: steps`` t is only where the recipe's own K steps of Euler's are taken, and x_t what the student's own steps
from x_1 have come to, so that each step mends what the ones before it missed:

.. math:: L = E_{k, (x_0, x_1)} \lVert u_\theta(\hat x_t, t) - (\hat x_t - x_0) / t \rVert^2, \quad t = 1 - k / K, \quad
    \hat x_{t - 1/K} = \hat x_t - u_\theta(\hat x_t, t) / K, \quad \hat x_1 = x_1

Begin that from a reflow (``start=run:REFLOW``). At other times the network then knows nothing any more: it draws in
those K steps, and neither denoises nor has a density.

The student is a copy of its teacher, asked in straight coordinates. It denoises in the sense of its own coupling:
its mean is of the rows whose *pairs* pass through x_t, and not of rows to which independent noise was added.

Code (paper): ``t`` (1 - t: the paper runs from noise to data), ``x_0, x_1`` (Z_1, Z_0), ``velocity`` (-v).

References:
    | Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow (Liu, Gong and Liu, 2022)
    | https://arxiv.org/abs/2209.03003
    | Improving the Training of Rectified Flows (Lee, Lin and Fanti, 2024): times towards both ends
    | https://arxiv.org/abs/2405.20320
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from reverie.core import model as core
from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises, Encodes, LogProb, Posterior
from reverie.core.errors import RequestError
from reverie.core.model import C
from reverie.core.noise import KeyedNoise, Noise
from reverie.core.player import Loss, OptimizerConfig, Player, Turn
from reverie.core.space import Space
from reverie.maths.distillation import towards_both_ends
from reverie.maths.paths import Straight, per_row
from reverie.maths.times import MOST_STEPS, even, time_grid
from reverie.nn.pairs import Pairs
from reverie.nn.student import Student, denoiser, find_teacher, taught_space
from reverie.samplers.conversion import straightened
from reverie.samplers.euler import Euler
from reverie.samplers.guidance.classifier_free import ClassifierFree, drop_labels
from reverie.samplers.guidance.clip import clipped
from reverie.samplers.heun import Heun
from reverie.samplers.integrate import Watch, integrate
from reverie.samplers.likelihood import log_likelihood
from reverie.samplers.solver import SolverChoice

FIRST = 1e-3
"""The flow from data starts here, since the noise that a row came from cannot be told from its mean at t = 0."""


class Sampling(core.Sampling):
    """How samples are drawn.

    Arguments:
        steps: steps from noise to data.
        solver: a file of ``samplers/``: ``euler``, ``heun`` (two evaluations a step) …
        guidance: classifier-free guidance; 1 is the conditional model itself.
    """

    steps: int = Field(2, ge=1, le=MOST_STEPS)
    solver: SolverChoice = Euler()
    guidance: float = Field(1.0, ge=0)


class Config(core.ModelConfig):
    """The model's configuration.

    Arguments:
        pair_steps: steps of Heun's method in which the teacher makes a row of noise.
        reuse: how often a pair is trained on, on average; a batch should be a multiple of it.
        memory: how many pairs are kept.
        times: how t is drawn in training: ``uniform``; ``ends``, mostly near the data and near the noise; or ``steps``,
            where the steps of ``sampling`` are taken.
        guidance: classifier-free guidance of the teacher, which the student then has for good.
        drop_label: the share of labels dropped in training, so that it can draw without one.
        likelihood_steps: Runge-Kutta steps of log-likelihoods, four evaluations each.
        exact_up_to: rows of at most so many values get the exact trace there, longer ones Hutchinson's estimate.
        optimizer: how the student steps.
        sampling: how samples are drawn.
    """

    pair_steps: int = Field(8, ge=1)
    reuse: int = Field(8, ge=1)
    memory: int = Field(2048, ge=1)
    times: Literal["uniform", "ends", "steps"] = "ends"
    guidance: float = Field(1.0, ge=0)
    drop_label: float = Field(0.1, ge=0, le=1)
    likelihood_steps: int = Field(20, ge=1)
    exact_up_to: int = Field(16, ge=0)
    optimizer: OptimizerConfig = OptimizerConfig(lr=5e-4, warmup=100, clip=1.0)
    sampling: Sampling = Sampling()


class Reflow(core.Model):
    """Creates a reflow of ``teacher``.

    Arguments:
        config: its configuration.
        space: what one row is.
        parts: ``teacher``, any model that denoises.

    Raises:
        RequestError: there is no teacher, or it is of other rows; or rows are conditioned on more than labels.
    """

    config: Config
    takes: ClassVar[tuple[str, ...]] = ("teacher",)

    def __init__(self, config: Config, space: Space, parts: Mapping[str, core.Part]) -> None:
        super().__init__(config, space, parts)
        found = find_teacher(parts, space)
        if found is None:
            raise RequestError("reflow needs a teacher: teacher=run:PATH, a run that denoises")
        if space.maps or space.sequence:
            raise RequestError("reflow keeps its pairs' labels, but no maps or sequences: train it without them")
        self.teacher = found
        self.space = taught_space(found, space)
        self.path = Straight()
        self.student = Student(found.model)
        self.pairs = Pairs(space, config.memory)
        self.latents = (Space(space.shape),)

    def players(self) -> Sequence[Player]:
        return (Player(name="student", modules=self.averaged(), loss=self.loss, optimizer=self.config.optimizer),)

    def averaged(self) -> Sequence[nn.Module]:
        return self.student.learners()

    def loss(self, turn: Turn) -> Loss:
        """The squared error of the velocity between pairs (Equation 1), averaged over the values of a row."""
        batch, noise = turn.batch, turn.noise
        fresh = min(-(-len(batch.x) // self.config.reuse), self.config.memory)
        made = noise.fork("pairs").split(fresh, len(batch.x) - fresh)[0].normal(*self.space.shape)
        condition = batch.condition.rows(0, fresh)
        self.pairs.put(made, self.couple(made, condition), condition)
        x_1, x_0, condition = self.pairs.draw(noise.fork("draw"), labelled=bool(self.space.classes))
        condition = drop_labels(condition, noise.fork("drop"), self.config.drop_label)
        t = even(noise.ids).to(x_0.dtype)
        if self.config.times == "steps":
            x_t, t = self._reached(x_1, t, condition)
            target = (x_t - x_0) / per_row(t, x_t)
        else:
            t = (towards_both_ends(t) if self.config.times == "ends" else t).clamp_min(FIRST)
            x_t, target = torch.lerp(x_0, x_1, per_row(t, x_0)), x_1 - x_0
        return Loss(terms={"velocity": (self.velocity(x_t, t, condition) - target).square().mean()})

    @torch.no_grad()
    def _reached(self, x_1: Tensor, u: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """Where the student's own steps come to, ``[B, ...]``, and when, ``[B]``; u in (0, 1) says how many."""
        steps = self.config.sampling.steps
        taken, x_t = (steps * u).long(), x_1
        for k in range(steps - 1):
            further = x_t - self.velocity(x_t, torch.full_like(u, 1 - k / steps), condition) / steps
            x_t = torch.where(per_row(taken > k, x_t), further, x_t)
        return x_t, 1 - taken.to(u.dtype) / steps

    @torch.no_grad()
    def couple(self, x_1: Tensor, condition: Condition | None = None) -> Tensor:
        """The rows that the teacher's flow makes of noise x_1 ``[B, ...]``."""
        teacher = denoiser(self.teacher.model)
        teacher = ClassifierFree(teacher, self.config.guidance) if self.space.classes else teacher
        teacher = straightened(clipped(teacher, self.space))
        x_0 = integrate(teacher, Heun(), x_1, time_grid(self.config.pair_steps), _no_noise(x_1), condition)
        return x_0.clamp(-1, 1) if self.space.depth else x_0

    def velocity(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        """E[x_1 - x_0 | x_t] over pairs, the slope of the flow from data to noise, ``[B, ...]``."""
        t = t.clamp_min(FIRST)
        return (x_t - self.denoise(x_t, t, condition).mean) / per_row(t, x_t)

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Posterior:
        return straightened(self.student).denoise(x_t, t, condition)

    def enter(self, x: Tensor) -> Tensor:
        return x

    def leave(self, z: Tensor) -> Tensor:
        return z

    def sample(
        self, noise: Noise, condition: Condition | None = None, how: Sampling | None = None, watch: Watch | None = None
    ) -> Tensor:
        how = how or self.config.sampling
        known = self.config.sampling.steps
        if self.config.times == "steps" and (how.steps, how.solver) != (known, Euler()):
            raise RequestError(f"times=steps: this reflow knows its own steps alone, steps={known} solver=euler")
        model = ClassifierFree(self, how.guidance) if self.space.classes else self
        x_1 = noise.normal(*self.space.shape)
        x = integrate(model, how.solver, x_1, time_grid(how.steps), noise, condition, watch)
        return x.clamp(-1, 1) if self.space.depth else x

    def log_prob(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """Returns the flow's log density in nats, ``[B]``; its trace is exact up to ``exact_up_to`` values.

        Of discrete data this is a density at the rows given: dequantise them first for a bound of the probability.
        """
        exact = self.space.size <= self.config.exact_up_to
        return log_likelihood(lambda x_t, t: self.velocity(x_t, t, condition), x, self.config.likelihood_steps, exact)

    def encode(self, x: Tensor, noise: Noise | None = None) -> tuple[Tensor, ...]:
        """The noise that ``decode`` takes to x, up to the error of the steps."""
        times = [*time_grid(CODING_STEPS)[:-1], FIRST][::-1]
        return (integrate(self, Heun(), x, times, _no_noise(x)),)

    def decode(self, z: tuple[Tensor, ...]) -> Tensor:
        if self.config.times == "steps":
            return integrate(self, Euler(), z[0], time_grid(self.config.sampling.steps), _no_noise(z[0]))
        return integrate(self, Heun(), z[0], time_grid(CODING_STEPS), _no_noise(z[0]))

    def view(self, kind: type[C]) -> C | None:
        between = (Denoises, LogProb, Encodes)  # what needs times between the steps
        return None if self.config.times == "steps" and kind in between else super().view(kind)


CODING_STEPS = 10
"""Of Heun's method, between rows and latents: paths are nearly straight."""


def _no_noise(x: Tensor) -> Noise:
    """What a deterministic solver is given, and leaves."""
    return KeyedNoise(0, torch.arange(len(x), device=x.device), "unused")
