r"""Progressive distillation: a student does in one step what its teacher does in two, and then teaches the next.

.. math:: L = E_{t, x_0, \epsilon} \, w(t) \lVert \tilde x - \hat x_\theta(x_t, t) \rVert^2, \quad
    t = i / N, \quad i \sim U\{1 \ldots N\}, \quad w = \max(\alpha_t^2 / \sigma_t^2, 1)

where x-tilde is the estimate with which DDIM goes in one step from t to t - 1/N, where the teacher's two steps of
1/(2N) lead. A training has stages of equal length; from each to the next N is halved, and the student as it has
become, averaged over its latest rounds, is the new teacher. The first teacher is the run that the recipe names.

Everything happens in the coordinates in which the path is straight: DDIM's steps are the same on any path, and even
times there lie about as on the paper's cosine path. What the network predicts is what the first teacher's did; the
loss and its weight are the paper's for v. (A teacher that predicts noise says little of x_0 at t = 1, as the paper's
Section 4 shows: teach with v or a velocity.)

References:
    | Progressive Distillation for Fast Sampling of Diffusion Models (Salimans and Ho, 2022), Algorithm 2
    | https://arxiv.org/abs/2202.00512
    | On Distillation of Guided Diffusion Models (Meng et al., 2023): the first teacher guided
    | https://arxiv.org/abs/2210.03142
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from reverie.core import model as core
from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises
from reverie.core.errors import RequestError
from reverie.core.noise import KeyedNoise, Noise
from reverie.core.player import Loss, OptimizerConfig, Player, Turn
from reverie.core.space import Space
from reverie.maths.distillation import target_of_step, truncated_snr
from reverie.maths.paths import Straight, per_row
from reverie.maths.times import even, time_grid
from reverie.nn.lagging import Lagging
from reverie.nn.student import Student, denoiser, find_teacher, taught_space
from reverie.samplers.conversion import straightened
from reverie.samplers.ddim import DDIM
from reverie.samplers.guidance.classifier_free import ClassifierFree, drop_labels
from reverie.samplers.guidance.clip import clipped
from reverie.samplers.integrate import Watch, integrate


class Config(core.ModelConfig):
    """The model's configuration.

    Arguments:
        steps: N of the first student and of the last; the last one halved again and again from the first.
        decay: how much of the average that teaches next is left after a round.
        guidance: classifier-free guidance of the first teacher, which its students then have for good.
        drop_label: the share of labels dropped in training, so that it can draw without one.
        optimizer: how the student steps.
    """

    steps: tuple[int, int] = (16, 2)
    decay: float = Field(0.99, ge=0, lt=1)
    guidance: float = Field(1.0, ge=0)
    drop_label: float = Field(0.1, ge=0, le=1)
    optimizer: OptimizerConfig = OptimizerConfig(lr=5e-4, warmup=100, clip=1.0)


class Teaching(core.Memory):
    """Creates what a stage needs: who teaches, who will teach next, and how many halvings there were.

    Arguments:
        student: at the start.
    """

    halved: Tensor

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.teacher, self.next = Lagging(student), Lagging(student)
        self.register_buffer("halved", torch.zeros((), dtype=torch.int64))

    def reach(self, stage: int) -> None:
        """Goes on to a stage, once: whoever was to teach next does."""
        if stage > int(self.halved):
            self.halved.fill_(stage)
            self.teacher.follow(self.next.module, decay=0.0)


class Progressive(core.Model):
    """Creates a progressive distillation of ``teacher``.

    Arguments:
        config: its configuration.
        space: what one row is.
        parts: ``teacher``, any model that denoises.

    Raises:
        RequestError: there is no teacher, or it is of other rows; or steps do not halve to the last.
    """

    config: Config
    takes: ClassVar[tuple[str, ...]] = ("teacher",)
    taught: Tensor

    def __init__(self, config: Config, space: Space, parts: Mapping[str, core.Part]) -> None:
        super().__init__(config, space, parts)
        first, last = config.steps
        self.halvings = max(first // max(last, 1), 1).bit_length() - 1
        if last < 1 or first != last * 2**self.halvings:
            raise RequestError(f"steps = [{first}, {last}]: the last must come of halving the first, as in [16, 2]")
        found = find_teacher(parts, space)
        if found is None:
            raise RequestError("progressive distillation needs a teacher: teacher=run:PATH, a run that denoises")
        self.teacher = found
        self.space = taught_space(found, space)
        self.student = Student(found.model)
        self.teaching = Teaching(self.student)
        self.register_buffer("taught", torch.tensor(first))  # how many steps the student has learnt to do it in
        self.latents = (Space(space.shape),)

    def players(self) -> Sequence[Player]:
        player = Player(
            name="student",
            modules=self.averaged(),
            loss=self.loss,
            optimizer=self.config.optimizer,
            after_turn=self._follow,
        )
        return (player,)

    def averaged(self) -> Sequence[nn.Module]:
        return self.student.learners()

    def loss(self, turn: Turn) -> Loss:
        """The squared error of the student's estimate of x-tilde, averaged over the values of a row (Algorithm 2)."""
        x_0 = turn.batch.x
        # From the turn's own progress, which is the same after a resume; the teaching is memory that a loss may write.
        self.teaching.reach(min(int(turn.progress.fraction * (self.halvings + 1)), self.halvings))
        steps = self._steps()
        t = (1 + (even(turn.noise.ids) * steps).floor().clamp(max=steps - 1)).to(x_0.dtype) / steps
        alpha_t, sigma_t = (per_row(a, x_0) for a in Straight()(t))
        x_t = alpha_t * x_0 + sigma_t * turn.noise.fork("eps").normal(*self.space.shape)
        condition = drop_labels(turn.batch.condition, turn.noise.fork("drop"), self.config.drop_label)
        target = self.target(x_t, t, steps, condition)
        estimate = straightened(self.student).denoise(x_t, t, condition).mean
        error = (estimate - target).square()
        return Loss(
            terms={"distillation": (truncated_snr(alpha_t, sigma_t) * error).mean()},
            figures={"steps": x_0.new_tensor(steps), "error": error.detach().mean()},
        )

    @torch.no_grad()
    def target(self, x_t: Tensor, t: Tensor, steps: int, condition: Condition | None = None) -> Tensor:
        """x-tilde: what a student of N ``steps`` should think of x_0, given x_t ``[B, ...]`` at t ``[B]``."""
        teacher, solver, s = straightened(self._teacher()), DDIM(), t - 1 / steps
        # The last step's end is the data, whatever is left of t by rounding.
        between, s = t - 0.5 / steps, torch.where(s < 0.25 / steps, 0.0, s)
        unused = _no_noise(x_t)
        x_between, state = solver.step(teacher, x_t, t, between, condition, unused, solver.init(x_t))
        x_s, _ = solver.step(teacher, x_between, between, s, condition, unused, state)
        ends = [per_row(a, x_t) for a in (*Straight()(t), *Straight()(s))]
        return target_of_step(x_t, x_s, *ends)

    def sample(
        self,
        noise: Noise,
        condition: Condition | None = None,
        how: core.Sampling | None = None,
        watch: Watch | None = None,
    ) -> Tensor:
        """In as many steps as the student has come to, the only ones that it knows."""
        return self._draw(noise.normal(*self.space.shape), condition, watch)

    def decode(self, z: tuple[Tensor, ...]) -> Tensor:
        return self._draw(z[0])

    def _draw(self, x: Tensor, condition: Condition | None = None, watch: Watch | None = None) -> Tensor:
        student: Denoises = clipped(self.student, self.space)
        times = time_grid(int(self.taught))
        x = integrate(straightened(student), DDIM(), x, times, _no_noise(x), condition, watch)
        return x.clamp(-1, 1) if self.space.depth else x

    def _steps(self) -> int:
        """N of the present stage."""
        return self.config.steps[0] >> int(self.teaching.halved)

    def _teacher(self) -> Denoises:
        if int(self.teaching.halved):
            teacher: Denoises = self.teaching.teacher.module
        else:
            teacher = denoiser(self.teacher.model)
            teacher = ClassifierFree(teacher, self.config.guidance) if self.space.classes else teacher
        return clipped(teacher, self.space)

    def _follow(self, loss: Loss) -> None:
        self.teaching.next.follow(self.student, self.config.decay)
        self.taught.fill_(self._steps())


def _no_noise(x: Tensor) -> Noise:
    """What a deterministic solver is given, and leaves."""
    return KeyedNoise(0, torch.arange(len(x), device=x.device), "unused")
