r"""DDPM: a network predicts the noise in x_t, at every one of T steps of a fixed path from data to noise.

.. math:: L_\text{simple} = E_{t, x_0, \epsilon} \lVert \epsilon - \epsilon_\theta(x_t, t) \rVert^2, \quad
    x_t = \sqrt{\bar\alpha_t} x_0 + \sqrt{1 - \bar\alpha_t} \epsilon

Code (paper): ``alpha_t, sigma_t`` (sqrt(alpha_bar_t), sqrt(1 - alpha_bar_t)), ``t = i / T`` (step i).

References:
    | Denoising Diffusion Probabilistic Models (Ho, Jain and Abbeel, 2020)
    | https://arxiv.org/abs/2006.11239
    | Denoising Diffusion Implicit Models (Song, Meng and Ermon, 2021)
    | https://arxiv.org/abs/2010.02502
    | Classifier-Free Diffusion Guidance (Ho and Salimans, 2022)
    | https://arxiv.org/abs/2207.12598
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar

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
from reverie.maths import predictions
from reverie.maths.path_choice import OtherPath
from reverie.maths.paths import LinearBetas, per_row, prior_scale
from reverie.maths.posteriors import Dirac
from reverie.maths.times import MOST_STEPS, Grid, even, grid
from reverie.nn.features import steered
from reverie.samplers.bound import Chain
from reverie.samplers.conversion import on_path
from reverie.samplers.ddim import DDIM
from reverie.samplers.guidance.classifier_free import ClassifierFree, drop_labels
from reverie.samplers.guidance.clip import clipped
from reverie.samplers.integrate import Watch, integrate
from reverie.samplers.solver import SolverChoice


class Sampling(core.Sampling):
    """How samples are drawn.

    Arguments:
        steps: network evaluations, 1 to T.
        solver: a file of ``samplers/``, perhaps with options: ``ddpm`` (ancestral), ``{name: ddim, eta: 1}`` …
        grid: how the steps' times are spread: ``even``, ``log-snr`` or ``karras``.
        path: the path along which samples are drawn, as in ``straight`` or ``{name: edm, largest: 20}``; None is the
            model's own. What is believed of x_0 stays the same.
        guidance: classifier-free guidance; 1 is the conditional model itself.
        size: height and width, for networks that work on any; None is the size of the training rows.
        clip: keep estimates of x_0 where the training rows are, pixels within [-1, 1].
    """

    steps: int = Field(50, ge=1, le=MOST_STEPS)
    solver: SolverChoice = DDIM()
    grid: Grid = "even"
    path: OtherPath = None
    guidance: float = Field(1.0, ge=0)
    size: int | None = Field(None, ge=8)
    clip: bool = True


class Config(core.ModelConfig):
    """The model's configuration.

    Arguments:
        network: the denoiser.
        path: T and its betas.
        prediction: what the network puts out.
        drop_label: the share of labels dropped in training, for guidance.
        bound_times: network evaluations for the inner terms of the bound, 1 to T - 1; T - 1 evaluates every term.
        optimizer: how the denoiser steps.
        sampling: how samples are drawn.
    """

    network: Choice = Choice(name="auto")
    steps: int = Field(1000, ge=2)
    betas: tuple[float, float] = (1e-4, 0.02)
    prediction: predictions.Prediction = "eps"
    drop_label: float = Field(0.1, ge=0, le=1)
    bound_times: int = Field(16, ge=1)
    optimizer: OptimizerConfig = OptimizerConfig(lr=2e-4, clip=1.0)
    sampling: Sampling = Sampling()


class DDPM(core.Model):
    """Creates a denoising diffusion probabilistic model.

    Arguments:
        config: its configuration.
        space: what one row is.
        parts: none.

    Raises:
        RequestError: rows are integers, more evaluations are asked for than there are steps, or betas fall or lie
            outside (0, 1).
    """

    config: Config
    networks: ClassVar[dict[str, tuple[str, Choice]]] = {"network": ("denoiser", auto("unet"))}

    def __init__(self, config: Config, space: Space, parts: Mapping[str, core.Part]) -> None:
        super().__init__(config, space, parts)
        if space.levels is not None:
            raise RequestError("ddpm needs continuous rows, not integers")
        if config.bound_times >= config.steps:
            also = f" model.sampling.steps={config.steps}" if config.sampling.steps > config.steps else ""
            raise RequestError(
                f"bound_times = {config.bound_times} must be less than steps = {config.steps}: "
                f"add model.bound_times={config.steps - 1}{also}"
            )
        self.path = LinearBetas(config.steps, *config.betas)
        self.chain = Chain(self.path, config.steps, config.bound_times)
        role, choice = self.networks["network"]
        self.network = catalog.network(role, config.network, space, choice)
        self.latents = (Space(space.shape),)

    def players(self) -> Sequence[Player]:
        self._times(self.config.sampling)  # more steps than T are told before the training, not by its first grid
        return (Player(name="denoiser", modules=(self.network,), loss=self.loss, optimizer=self.config.optimizer),)

    def averaged(self) -> Sequence[nn.Module]:
        return (self.network,)

    def loss(self, turn: Turn) -> Loss:
        """L_simple with t uniform on 1 … T (Equation 14), averaged over the values of a row."""
        x_0, steps = turn.batch.x, self.config.steps
        t = (1 + (even(turn.noise.ids) * steps).floor().clamp(max=steps - 1)) / steps
        eps = turn.noise.fork("eps").normal(*self.space.shape)
        alpha_t, sigma_t = (per_row(a, x_0) for a in self.path(t))
        condition = drop_labels(turn.batch.condition, turn.noise.fork("drop"), self.config.drop_label)
        output = self.network(alpha_t * x_0 + sigma_t * eps, t, condition)
        target = predictions.target(self.config.prediction, x_0, eps, alpha_t, sigma_t)
        return Loss(terms={"simple": (output.float() - target).square().mean()})

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Dirac:
        alpha_t, sigma_t = (per_row(a, x_t) for a in self.path(t))
        output = self.network(x_t, t, condition).to(x_t.dtype)
        return Dirac(predictions.clean(self.config.prediction, output, x_t, alpha_t, sigma_t))

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
        model = on_path(self._guided(how), how.path)
        x_1 = noise.normal(*self.space.at(how.size)) * prior_scale(model.path, noise.ids.device)
        x = integrate(model, how.solver, x_1, self._times(how), noise, condition, watch)
        return x.clamp(-1, 1) if self.space.depth else x

    def encode(self, x: Tensor, noise: Noise | None = None) -> tuple[Tensor, ...]:
        """DDIM inversion: the noise that ``decode`` takes to x, up to the error of the steps."""
        kept = self._clipped(self, self.config.sampling)
        return (integrate(kept, DDIM(), x, self._own_times()[::-1], noise or _no_noise(x)),)

    def decode(self, z: tuple[Tensor, ...]) -> Tensor:
        kept = self._clipped(self, self.config.sampling)
        return integrate(kept, DDIM(), z[0], self._own_times(), _no_noise(z[0]))

    def elbo(self, x: Tensor, noise: Noise, condition: Condition | None = None) -> Tensor:
        """The bound of the chain with variances beta_t, unbiased (Equation 5): all terms, some of them by chance.

        Its steps are those that samples take, with estimates clipped where theirs are (``sampling.clip``).
        Discrete rows (``space.depth``) have a discrete likelihood.
        """
        return self.chain.bound(self._clipped(self, self.config.sampling), x, noise, condition)

    def _guided(self, how: Sampling) -> Denoises:
        guided: Denoises = ClassifierFree(self, how.guidance) if self.space.classes else self
        return self._clipped(guided, how)

    def _clipped(self, model: Denoises, how: Sampling) -> Denoises:
        return clipped(model, self.space) if how.clip else model

    def _own_times(self) -> list[float]:
        """The model's own path, in as many of the steps of samples as it has."""
        how = self.config.sampling
        steps = how.steps if how.path is None else min(how.steps, self.config.steps)
        return self._times(how.model_copy(update={"path": None, "steps": steps}))

    def _times(self, how: Sampling) -> list[float]:
        return grid(how.grid, how.steps, how.path or self.path, None if how.path else self.config.steps)


def _no_noise(x: Tensor) -> Noise:
    """What a deterministic solver is given, and leaves."""
    return KeyedNoise(0, torch.arange(len(x), device=x.device), "unused")
