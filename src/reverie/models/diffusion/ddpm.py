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

from collections.abc import Iterator, Mapping, Sequence
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
from reverie.maths.densities import gaussian_kl, gaussian_log_prob
from reverie.maths.discretised_gaussian import discretised_gaussian_log_prob
from reverie.maths.paths import LinearBetas, per_row
from reverie.maths.posteriors import Dirac, backward
from reverie.maths.times import even, time_grid
from reverie.nn.features import steered
from reverie.samplers.ddim import DDIM
from reverie.samplers.guidance.classifier_free import ClassifierFree, drop_labels
from reverie.samplers.guidance.clip import Clip
from reverie.samplers.integrate import Watch, integrate
from reverie.samplers.solver import find_solver


class Sampling(core.Sampling):
    """How samples are drawn.

    Arguments:
        steps: network evaluations, 1 to T.
        solver: a file of ``samplers/``: ``ddpm`` (ancestral), ``ddim``, ``heun`` …
        eta: DDIM's share of fresh noise; 0 is deterministic.
        guidance: classifier-free guidance; 1 is the conditional model itself.
        clip: keep estimates of x_0 within [-1, 1], for pixels.
    """

    steps: int = Field(50, ge=1)
    solver: str = "ddim"
    eta: float = Field(0.0, ge=0, le=1)
    guidance: float = Field(1.0, ge=0)
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
        RequestError: rows are integers, or more evaluations are asked for than there are steps.
    """

    config: Config
    networks: ClassVar[dict[str, tuple[str, Choice]]] = {"network": ("denoiser", auto("unet"))}

    def __init__(self, config: Config, space: Space, parts: Mapping[str, core.Part]) -> None:
        super().__init__(config, space, parts)
        if space.levels is not None:
            raise RequestError("ddpm needs continuous rows, not integers")
        if config.bound_times >= config.steps:
            raise RequestError(f"bound_times = {config.bound_times} must be less than steps = {config.steps}")
        self.path = LinearBetas(config.steps, *config.betas)
        role, choice = self.networks["network"]
        self.network = catalog.network(role, config.network, space, choice)
        self.latents = (Space(space.shape),)

    def players(self) -> Sequence[Player]:
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
        solver = DDIM(how.eta) if how.solver == "ddim" else find_solver(how.solver)
        x = integrate(
            self._guided(how), solver, noise.normal(*self.space.shape), self._times(how.steps), noise, condition, watch
        )
        return x.clamp(-1, 1) if self.space.depth else x

    def encode(self, x: Tensor, noise: Noise | None = None) -> tuple[Tensor, ...]:
        """DDIM inversion: the noise that ``decode`` takes to x, up to the error of the steps."""
        times = self._times(self.config.sampling.steps)[::-1]
        return (integrate(self, DDIM(), x, times, noise or _no_noise(x)),)

    def decode(self, z: tuple[Tensor, ...]) -> Tensor:
        return integrate(self, DDIM(), z[0], self._times(self.config.sampling.steps), _no_noise(z[0]))

    def elbo(self, x: Tensor, noise: Noise, condition: Condition | None = None) -> Tensor:
        r"""The bound of the chain with variances beta_t, unbiased (Equation 5): all terms, some of them by chance.

        .. math:: -KL(q(x_T | x_0), N(0, I)) - \sum_{t > 1} KL(q(x_{t-1} | x_t, x_0), p(x_{t-1} | x_t))
            + \log p(x_0 | x_1)

        Prior and reconstruction are always evaluated; of the sum, ``bound_times`` times, stratified over the
        distribution that makes likely what weighs much. Discrete rows (``space.depth``) have a discrete likelihood.
        """
        total = -self._prior(x) + self._reconstruction(x, noise.fork("first"), condition)
        for step, weight in self._inner_steps(noise.fork("times")):
            total = total - weight * self._divergence(x, step, noise, condition)
        return total

    def _guided(self, how: Sampling) -> Denoises:
        guided: Denoises = ClassifierFree(self, how.guidance) if self.space.classes else self
        return Clip(guided) if how.clip and self.space.depth else guided

    def _times(self, steps: int) -> list[float]:
        if steps > self.config.steps:
            raise RequestError(f"steps = {steps} is more than this model's T = {self.config.steps}")
        return time_grid(steps, self.config.steps)

    def _prior(self, x: Tensor) -> Tensor:
        """KL(q(x_T | x_0), N(0, I)), ``[B]``."""
        alpha_1, sigma_1 = (per_row(a, x) for a in self.path(x.new_ones(len(x))))
        return gaussian_kl(alpha_1 * x, torch.log(sigma_1)).flatten(1).sum(1)

    def _reconstruction(self, x: Tensor, noise: Noise, condition: Condition | None) -> Tensor:
        """log p(x_0 | x_1), ``[B]``: the step whose mean is the estimate of x_0 and whose variance is beta_1."""
        t = x.new_full((len(x),), 1 / self.config.steps)
        alpha_t, sigma_t = (per_row(a, x) for a in self.path(t))
        x_t = alpha_t * x + sigma_t * noise.normal(*x.shape[1:])
        mean = self.denoise(x_t, t, condition).mean
        if self.space.depth:
            log_prob = discretised_gaussian_log_prob(x, mean, sigma_t, self.space.depth)
        else:
            log_prob = gaussian_log_prob(x, mean, torch.log(sigma_t))
        return log_prob.flatten(1).sum(1)

    def _divergence(self, x: Tensor, step: Tensor, noise: Noise, condition: Condition | None) -> Tensor:
        """KL(q(x_{t-1} | x_t, x_0), p(x_{t-1} | x_t)) at steps ``[B]`` of 2 … T, ``[B]``: equal means but for x_0's."""
        t, s = (i.to(x.dtype) / self.config.steps for i in (step, step - 1))
        alpha_t, sigma_t = (per_row(a, x) for a in self.path(t))
        x_t = alpha_t * x + sigma_t * noise.normal(*x.shape[1:])
        error = (x - self.denoise(x_t, t, condition).mean).flatten(1).square().sum(1)
        q = backward(self.path, t, s)
        ratio = q.variance / q.fresh
        return 0.5 * (self.space.size * (ratio - 1 - torch.log(ratio)) + q.b**2 / q.fresh * error)

    def _inner_steps(self, noise: Noise) -> Iterator[tuple[Tensor, Tensor]]:
        """Steps ``[B]`` of 2 … T and the weights ``[B]`` that make their sum one over all steps."""
        count = self.config.bound_times
        steps = torch.arange(2, self.config.steps + 1, device=noise.ids.device)
        shares = self._importance(steps)
        edges = shares.cumsum(0)
        u = noise.uniform()
        for k in range(count):
            place = torch.searchsorted(edges, (k + u) / count * edges[-1], right=True).clamp(max=len(steps) - 1)
            yield steps[place], 1 / (count * shares[place])

    def _importance(self, steps: Tensor) -> Tensor:
        """How likely each step is to be evaluated: half evenly, half by the size of its term were data white."""
        if self.config.bound_times == len(steps):
            return torch.full(steps.shape, 1 / len(steps), device=steps.device)
        t, s = (i.float() / self.config.steps for i in (steps, steps - 1))
        alpha_t, sigma_t = self.path(t)
        q = backward(self.path, t, s)
        variance = TYPICAL_VARIANCE
        term = q.b**2 / q.fresh * variance * sigma_t**2 / (alpha_t**2 * variance + sigma_t**2)
        return 0.5 / len(steps) + 0.5 * term / term.sum()


TYPICAL_VARIANCE = 0.05
"""Of a pixel given its neighbours: shapes which terms of the bound are evaluated, never its expectation."""


def _no_noise(x: Tensor) -> Noise:
    """What a deterministic solver is given, and leaves."""
    return KeyedNoise(0, torch.arange(len(x), device=x.device), "unused")
