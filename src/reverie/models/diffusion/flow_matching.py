r"""Flow matching on the straight path: a network predicts the velocity from data to noise.

.. math:: L = E_{t, x_0, \epsilon} \lVert u_\theta(x_t, t) - (\epsilon - x_0) \rVert^2, \quad
    x_t = (1 - t) x_0 + t \epsilon

Code (paper): ``t`` (1 - t: the paper runs from noise to data), ``x_0, eps`` (x_1, x_0), ``velocity`` (-v).

References:
    | Flow Matching for Generative Modeling (Lipman et al., 2023)
    | https://arxiv.org/abs/2210.02747
    | Flow Straight and Fast (Liu, Gong and Liu, 2022)
    | https://arxiv.org/abs/2209.03003
    | Scaling Rectified Flow Transformers for High-Resolution Image Synthesis (Esser et al., 2024)
    | https://arxiv.org/abs/2403.03206
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from reverie.core import catalog
from reverie.core import model as core
from reverie.core.batch import Condition
from reverie.core.capabilities import Change, Denoises
from reverie.core.choice import Choice, auto
from reverie.core.errors import RequestError
from reverie.core.noise import KeyedNoise, Noise
from reverie.core.player import Loss, OptimizerConfig, Player, Turn
from reverie.core.space import Space
from reverie.core.strict import Strict
from reverie.maths import predictions
from reverie.maths.path_choice import OtherPath
from reverie.maths.paths import Straight, per_row, prior_scale
from reverie.maths.posteriors import Dirac
from reverie.maths.times import MOST_STEPS, Grid, even, grid, logit_normal
from reverie.nn.features import steered
from reverie.samplers.conversion import on_path
from reverie.samplers.euler import Euler
from reverie.samplers.guidance.classifier_free import ClassifierFree, drop_labels
from reverie.samplers.heun import Heun
from reverie.samplers.integrate import Watch, integrate
from reverie.samplers.likelihood import log_likelihood
from reverie.samplers.solver import SolverChoice


class Sampling(core.Sampling):
    """How samples are drawn.

    Arguments:
        steps: steps from noise to data.
        solver: a file of ``samplers/``, perhaps with options: ``euler``, ``heun`` (two evaluations a step) …
        grid: how the steps' times are spread: ``even``, ``log-snr`` or ``karras``.
        path: the path along which samples are drawn, as in ``straight`` or ``{name: edm, largest: 20}``; None is the
            model's own. What is believed of x_0 stays the same.
        guidance: classifier-free guidance; 1 is the conditional model itself.
        size: height and width, for networks that work on any; None is the size of the training rows.
    """

    steps: int = Field(50, ge=1, le=MOST_STEPS)
    solver: SolverChoice = Euler()
    grid: Grid = "even"
    path: OtherPath = None
    guidance: float = Field(1.0, ge=0)
    size: int | None = Field(None, ge=8)


class Likelihood(Strict):
    """How log-likelihoods are computed.

    Arguments:
        steps: Runge-Kutta steps, four evaluations each.
        exact_up_to: rows of at most so many values get the exact trace, longer ones Hutchinson's estimate.
        probes: random vectors a row of that estimate.
    """

    steps: int = Field(20, ge=1)
    exact_up_to: int = Field(16, ge=0)
    probes: int = Field(1, ge=1)


class Config(core.ModelConfig):
    """The model's configuration.

    Arguments:
        network: the denoiser.
        times: how t is drawn in training: ``uniform``, or ``logit-normal``, mostly between data and noise.
        location: of the logit-normal; above 0 for more noise.
        scale: of the logit-normal.
        drop_label: the share of labels dropped in training, for guidance.
        likelihood: how log-likelihoods are computed.
        optimizer: how the denoiser steps.
        sampling: how samples are drawn.
    """

    network: Choice = Choice(name="auto")
    times: Literal["uniform", "logit-normal"] = "logit-normal"
    location: float = 0.0
    scale: float = Field(1.0, gt=0)
    drop_label: float = Field(0.1, ge=0, le=1)
    likelihood: Likelihood = Likelihood()
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-3, warmup=100, clip=1.0)
    sampling: Sampling = Sampling()


class FlowMatching(core.Model):
    """Creates a flow matching model.

    Arguments:
        config: its configuration.
        space: what one row is.
        parts: none.

    Raises:
        RequestError: rows are integers.
    """

    config: Config
    networks: ClassVar[dict[str, tuple[str, Choice]]] = {"network": ("denoiser", auto("unet"))}

    def __init__(self, config: Config, space: Space, parts: Mapping[str, core.Part]) -> None:
        super().__init__(config, space, parts)
        if space.levels is not None:
            raise RequestError("flow matching needs continuous rows, not integers")
        self.path = Straight()
        role, choice = self.networks["network"]
        self.network = catalog.network(role, config.network, space, choice)
        self.latents = (Space(space.shape),)

    def players(self) -> Sequence[Player]:
        return (Player(name="denoiser", modules=(self.network,), loss=self.loss, optimizer=self.config.optimizer),)

    def averaged(self) -> Sequence[nn.Module]:
        return (self.network,)

    def loss(self, turn: Turn) -> Loss:
        """Conditional flow matching (Lipman et al., Equation 23), averaged over the values of a row."""
        x_0 = turn.batch.x
        t = even(turn.noise.ids)
        if self.config.times == "logit-normal":
            t = logit_normal(t, self.config.location, self.config.scale)
        eps = turn.noise.fork("eps").normal(*self.space.shape)
        alpha_t, sigma_t = (per_row(a, x_0) for a in self.path(t))
        condition = drop_labels(turn.batch.condition, turn.noise.fork("drop"), self.config.drop_label)
        output = self.velocity(alpha_t * x_0 + sigma_t * eps, t, condition)
        target = predictions.target("velocity", x_0, eps, alpha_t, sigma_t)
        return Loss(terms={"velocity": (output - target).square().mean()})

    def velocity(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        """E[eps - x_0 | x_t], the slope of the flow from data to noise, ``[B, ...]``."""
        alpha_t, sigma_t = (per_row(a, x_t) for a in self.path(t))
        # Rows of unit variance reach the network with unit variance at every t.
        scaled = x_t * torch.rsqrt(alpha_t**2 + sigma_t**2)
        output: Tensor = self.network(scaled, t, condition)
        return output.to(x_t.dtype)

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Dirac:
        alpha_t, sigma_t = (per_row(a, x_t) for a in self.path(t))
        return Dirac(predictions.clean("velocity", self.velocity(x_t, t, condition), x_t, alpha_t, sigma_t))

    def enter(self, x: Tensor) -> Tensor:
        return x

    def leave(self, z: Tensor) -> Tensor:
        return z

    def steered(self, change: Change) -> AbstractContextManager[None]:
        return steered(self.network, change)

    def sample(
        self, noise: Noise, condition: Condition | None = None, how: Sampling | None = None, watch: Watch | None = None
    ) -> Tensor:
        how = how or self.config.sampling
        model: Denoises = ClassifierFree(self, how.guidance) if self.space.classes else self
        model = on_path(model, how.path)
        x_1 = noise.normal(*self.space.at(how.size)) * prior_scale(model.path, noise.ids.device)
        x = integrate(model, how.solver, x_1, grid(how.grid, how.steps, model.path), noise, condition, watch)
        return x.clamp(-1, 1) if self.space.depth else x

    def log_prob(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """Returns the flow's log density in nats, ``[B]``; its trace is exact up to ``likelihood.exact_up_to`` values.

        Of discrete data this is a density at the rows given: dequantise them first for a bound of the probability.
        """
        how = self.config.likelihood
        exact = self.space.size <= how.exact_up_to
        return log_likelihood(lambda x_t, t: self.velocity(x_t, t, condition), x, how.steps, exact, how.probes)

    def encode(self, x: Tensor, noise: Noise | None = None) -> tuple[Tensor, ...]:
        """The noise that ``decode`` takes to x, up to the error of the steps."""
        return (self._flow(x, self._times()[::-1]),)

    def decode(self, z: tuple[Tensor, ...]) -> Tensor:
        return self._flow(z[0], self._times())

    def _times(self) -> list[float]:
        how = self.config.sampling
        return grid(how.grid, how.steps, self.path)

    def _flow(self, x: Tensor, times: Sequence[float]) -> Tensor:
        """Heun's method, which draws no noise."""
        unused = KeyedNoise(0, torch.arange(len(x), device=x.device), "unused")
        return integrate(self, Heun(), x, times, unused)
