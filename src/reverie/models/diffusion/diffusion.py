r"""Denoising with every choice free: the path, what is predicted, how errors weigh, when, and how samples are drawn.

.. math:: L = E_{t, x_0, \epsilon} \, w_t \lVert y - y_\theta(x_t, t) \rVert^2, \quad
    x_t = \alpha_t x_0 + \sigma_t \epsilon

Code (paper): ``alpha_t, sigma_t`` (the path; EDM: s, s sigma), y (``prediction``), w (``weighting``).

References:
    | Denoising Diffusion Probabilistic Models (Ho, Jain and Abbeel, 2020)
    | https://arxiv.org/abs/2006.11239
    | Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021)
    | https://arxiv.org/abs/2011.13456
    | Improved Denoising Diffusion Probabilistic Models (Nichol and Dhariwal, 2021)
    | https://arxiv.org/abs/2102.09672
    | Variational Diffusion Models (Kingma et al., 2021)
    | https://arxiv.org/abs/2107.00630
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022)
    | https://arxiv.org/abs/2206.00364
    | Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal Transport (Tong et al., 2024)
    | https://arxiv.org/abs/2302.00482
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from reverie.core import catalog
from reverie.core import model as core
from reverie.core.batch import Condition
from reverie.core.capabilities import Bounds, Change, Denoises, LogProb, Path, Posterior
from reverie.core.choice import Choice, auto
from reverie.core.errors import RequestError
from reverie.core.model import C
from reverie.core.noise import KeyedNoise, Noise
from reverie.core.player import Loss, OptimizerConfig, Player, Turn
from reverie.core.space import Space
from reverie.core.strict import Strict
from reverie.maths import predictions
from reverie.maths.path_choice import OtherPath, PathChoice
from reverie.maths.paths import Learned, LinearBetas, LinearLogSnr, per_row, prior_scale, ticks
from reverie.maths.posteriors import Dirac, LearnedStep
from reverie.maths.times import MOST_STEPS, Grid, grid
from reverie.maths.training_times import Times
from reverie.maths.transport import optimal_pairs
from reverie.maths.weights import Weighting, c_noise, weight
from reverie.nn.features import steered
from reverie.nn.schedule import LearnedSchedule
from reverie.samplers.bound import Chain
from reverie.samplers.continuous_bound import continuous_bound, prior, reconstruction
from reverie.samplers.conversion import on_path
from reverie.samplers.ddim import DDIM
from reverie.samplers.guidance.classifier_free import ClassifierFree, drop_labels
from reverie.samplers.guidance.clip import clipped
from reverie.samplers.heun import Heun
from reverie.samplers.integrate import Watch, integrate
from reverie.samplers.path_likelihood import path_log_likelihood
from reverie.samplers.solver import SolverChoice


class Sampling(core.Sampling):
    """How samples are drawn.

    Arguments:
        steps: steps from noise to data; at most T on a path of T steps.
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


class Likelihood(Strict):
    """How likelihoods are computed.

    Arguments:
        by: ``bound``, the variational one, or ``flow``, exact through the probability flow: which of the two
            capabilities the model shows.
        chain: steps of the bound's chain on continuous paths (a path of T steps has its own T).
        times: network evaluations for the bound's inner terms.
        variance: of the chain's steps, where it is not learned: ``beta`` or ``posterior`` (beta-tilde).
        steps: Runge-Kutta steps of the flow, four evaluations each.
        exact_up_to: rows of at most so many values get the exact trace, longer ones Hutchinson's estimate.
        probes: random vectors a row of that estimate.
    """

    by: Literal["bound", "flow"] = "bound"
    chain: int = Field(1000, ge=2)
    times: int = Field(16, ge=1)
    variance: Literal["beta", "posterior"] = "posterior"
    steps: int = Field(20, ge=1)
    exact_up_to: int = Field(16, ge=0)
    probes: int = Field(1, ge=1)


class Config(core.ModelConfig):
    """The model's configuration.

    Arguments:
        network: the denoiser.
        path: a class of ``maths/paths.py`` by name, or ``interpolant``, perhaps with options, as in
            ``{name: cosine-betas, steps: 100}``.
        prediction: what the network puts out.
        data_std: the standard deviation of values, which scales what the network sees; EDM's sigma_data.
        learned_variance: whether the network puts out the variance of its steps, too; on a path of T steps.
        bound_weight: of the bound in the loss that trains the variance (L_hybrid's lambda).
        weighting: how errors weigh: ``simple``, that of what is predicted, or a name of ``maths/weights.py``. Under
            ``bound`` the loss is the whole negative bound, prior and reconstruction with it, in nats a value.
        weighting_parameter: the weighting's own; None for its paper's.
        times: when errors are taken in training.
        coupling: which noise meets which row: ``independent``, or ``optimal-transport`` within a label's rows of the
            (micro-)batch.
        drop_label: the share of labels dropped in training, for guidance.
        likelihood: how likelihoods are computed.
        optimizer: how the denoiser steps.
        sampling: how samples are drawn.
    """

    network: Choice = Choice(name="auto")
    path: PathChoice = LinearBetas()
    prediction: predictions.Prediction = "eps"
    data_std: float = Field(1.0, gt=0)
    learned_variance: bool = False
    bound_weight: float = Field(0.001, ge=0)
    weighting: Weighting = "simple"
    weighting_parameter: float | None = None
    times: Times = Times()
    coupling: Literal["independent", "optimal-transport"] = "independent"
    drop_label: float = Field(0.1, ge=0, le=1)
    likelihood: Likelihood = Likelihood()
    optimizer: OptimizerConfig = OptimizerConfig(lr=2e-4, clip=1.0)
    sampling: Sampling = Sampling()


class Diffusion(core.Model):
    """Creates a diffusion model.

    Arguments:
        config: its configuration.
        space: what one row is.
        parts: none.

    Raises:
        RequestError: rows are integers, the path is unknown, or two choices do not go together.
    """

    config: Config
    networks: ClassVar[dict[str, tuple[str, Choice]]] = {"network": ("denoiser", auto("unet"))}
    path: Path

    def __init__(self, config: Config, space: Space, parts: Mapping[str, core.Part]) -> None:
        super().__init__(config, space, parts)
        if space.levels is not None:
            raise RequestError("diffusion needs continuous rows, not integers")
        _check(config)
        path = config.path
        self.path = LearnedSchedule(path.first, path.last) if isinstance(path, Learned) else path
        self.ticks = ticks(path)
        role, choice = self.networks["network"]
        # A learned variance doubles the channels that come out, and so those that go in.
        self.copies = 2 if config.learned_variance else 1
        seen = replace(space, shape=(self.copies * space.shape[0], *space.shape[1:]))
        self.network = catalog.network(role, config.network, seen, choice)
        self.latents = (Space(space.shape),)
        likelihood = config.likelihood
        steps = self.ticks or likelihood.chain
        self.chain = Chain(self.path, steps, min(likelihood.times, steps - 1), likelihood.variance)

    def view(self, kind: type[C]) -> C | None:
        hidden: Any = LogProb if self.config.likelihood.by == "bound" else Bounds
        return None if kind is hidden else super().view(kind)

    def players(self) -> Sequence[Player]:
        self._grid(self.config.sampling)  # more steps than T are told before the training, not by its first grid
        return (Player(name="denoiser", modules=self._trained(), loss=self.loss, optimizer=self.config.optimizer),)

    def averaged(self) -> Sequence[nn.Module]:
        return self._trained()

    def loss(self, turn: Turn) -> Loss:
        """The weighted error of what is predicted, averaged over the values of a row; or the bound per value."""
        config, x_0 = self.config, turn.batch.x
        eps = turn.noise.fork("eps").normal(*self.space.shape)
        if config.coupling == "optimal-transport":
            eps = eps[optimal_pairs(x_0, eps, turn.batch.condition.label)]
        t = config.times.at(turn.noise.ids, self.path, self.ticks)
        condition = drop_labels(turn.batch.condition, turn.noise.fork("drop"), config.drop_label)
        if config.weighting == "bound" and self.ticks is None:
            return self._bound(x_0, eps, t, turn.noise.fork("first"), condition)
        alpha_t, sigma_t = (per_row(a, x_0) for a in self.path(t))
        x_t = alpha_t * x_0 + sigma_t * eps
        output, share = self._output(x_t, t, alpha_t, sigma_t, condition)
        step = (t * self.chain.steps).round().long()
        if config.weighting == "bound":
            posterior = _posterior(self._clean(output, x_t, alpha_t, sigma_t), share)
            return self._in_nats(self.chain.terms(posterior, x_0, step, self.space.depth))
        target = predictions.target(config.prediction, x_0, eps, alpha_t, sigma_t, config.data_std)
        w = self._weight(alpha_t, sigma_t)
        terms: dict[str, Tensor] = {config.weighting: (w * (output - target).square()).mean()}
        if share is not None:
            mean = self._clean(output, x_t, alpha_t, sigma_t).detach()  # the bound trains the variance alone
            chain = self.chain.term(LearnedStep(mean, share), x_0, step, self.space.depth)
            terms["bound"] = config.bound_weight * self.chain.steps * chain.mean() / self.space.size
        return Loss(terms=terms)

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Posterior:
        alpha_t, sigma_t = (per_row(a, x_t) for a in self.path(t))
        output, share = self._output(x_t, t, alpha_t, sigma_t, condition)
        mean = self._clean(output, x_t, alpha_t, sigma_t)
        return _posterior(mean, share)

    def velocity(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        """E[eps - x_0 | x_t], the slope of the flow in the coordinates in which the path is straight, ``[B, ...]``."""
        alpha_t, sigma_t = (per_row(a, x_t) for a in self.path(t))
        output, _ = self._output(x_t, t, alpha_t, sigma_t, condition)
        given, std = self.config.prediction, self.config.data_std
        return predictions.convert(given, "velocity", output, x_t, alpha_t, sigma_t, std)

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
        x = integrate(model, how.solver, x_1, self._grid(how), noise, condition, watch)
        return x.clamp(-1, 1) if self.space.depth else x

    def encode(self, x: Tensor, noise: Noise | None = None) -> tuple[Tensor, ...]:
        """The noise that ``decode`` takes to x, of unit variance, up to the error of the steps."""
        return (self._flow(x, self._own_grid()[::-1]) / prior_scale(self.path, x.device),)

    def decode(self, z: tuple[Tensor, ...]) -> Tensor:
        return self._flow(z[0] * prior_scale(self.path, z[0].device), self._own_grid())

    def elbo(self, x: Tensor, noise: Noise, condition: Condition | None = None) -> Tensor:
        """The bound, all terms, unbiased: of a chain of steps, or of infinitely many where the path begins with noise.

        A chain's steps are those that samples take, with estimates clipped where theirs are (``sampling.clip``).
        Discrete rows (``space.depth``) have a discrete likelihood.
        """
        if isinstance(self.path, LinearLogSnr | LearnedSchedule):
            return continuous_bound(self, self.path, self.config.likelihood.times, x, noise, condition)
        return self.chain.bound(self._clipped(self, self.config.sampling), x, noise, condition)

    def log_prob(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """Returns the flow's log density in nats, ``[B]``; its trace is exact up to ``likelihood.exact_up_to`` values.

        Of discrete data this is a density at the rows given: dequantise them first for a bound of the probability.
        """
        how = self.config.likelihood
        exact = self.space.size <= how.exact_up_to
        return path_log_likelihood(
            self.path, lambda x_t, t: self.velocity(x_t, t, condition), x, how.steps, exact, how.probes
        )

    def _trained(self) -> tuple[nn.Module, ...]:
        return (self.network, self.path) if isinstance(self.path, LearnedSchedule) else (self.network,)

    def _weight(self, alpha_t: Tensor, sigma_t: Tensor) -> Tensor:
        config = self.config
        return weight(
            config.weighting,
            config.prediction,
            alpha_t,
            sigma_t,
            parameter=config.weighting_parameter,
            data_std=config.data_std,
        )

    def _output(
        self, x_t: Tensor, t: Tensor, alpha_t: Tensor, sigma_t: Tensor, condition: Condition | None
    ) -> tuple[Tensor, Tensor | None]:
        """What is predicted, ``[B, ...]``, and the share of the learned variance."""
        # Rows of the data's variance reach the network with unit variance at every t.
        scaled = predictions.precondition(alpha_t, sigma_t, self.config.data_std).c_in * x_t
        by_noise = self.config.prediction == "edm" or isinstance(self.path, LearnedSchedule)
        level = c_noise(alpha_t.flatten(), sigma_t.flatten()) if by_noise else t
        raw: Tensor = self.network(torch.cat([scaled] * self.copies, 1), level, condition).to(x_t.dtype)
        share = None
        if self.copies == 2:
            raw, share = raw.chunk(2, 1)
            share = (share + 1) / 2
        if self.config.prediction == "score":
            # The score's size is 1 / sigma: the network is spared that (Song and Ermon, 2020, Technique 3).
            raw = raw / sigma_t.clamp_min(torch.finfo(torch.float32).eps)
        return raw, share

    def _clean(self, output: Tensor, x_t: Tensor, alpha_t: Tensor, sigma_t: Tensor) -> Tensor:
        return predictions.clean(self.config.prediction, output, x_t, alpha_t, sigma_t, self.config.data_std)

    def _bound(self, x_0: Tensor, eps: Tensor, t: Tensor, noise: Noise, condition: Condition | None) -> Loss:
        """The continuous bound, in nats a value (Kingma et al., Equation 17), prior and reconstruction with it."""
        path = self.path
        assert isinstance(path, LinearLogSnr | LearnedSchedule)
        if isinstance(path, LearnedSchedule):
            gamma, fall, settle = path.steadied(t)
        else:
            (gamma, fall), settle = path.at(t), None
        alpha_t, sigma_t = (per_row(torch.sigmoid(sign * gamma).sqrt(), x_0) for sign in (-1, 1))
        output, _ = self._output(alpha_t * x_0 + sigma_t * eps, t, alpha_t, sigma_t, condition)
        given, std = self.config.prediction, self.config.data_std
        target = predictions.target(given, x_0, eps, alpha_t, sigma_t, std)
        w = weight("bound", given, alpha_t, sigma_t, data_std=std, fall=per_row(fall, x_0))
        rows = (w * (output - target).square()).flatten(1).mean(1)
        if settle is not None:
            settle(rows)
        first = -reconstruction(path, x_0, noise, self.space.depth)
        return self._in_nats({"diffusion": rows * self.space.size, "prior": prior(path, x_0), "reconstruction": first})

    def _in_nats(self, rows: Mapping[str, Tensor]) -> Loss:
        """The negative bound a value, from its terms in nats, ``[B]`` each."""
        terms = {name: value.mean() / self.space.size for name, value in rows.items()}
        return Loss(terms=terms, figures={"bits_per_dim": torch.stack([*terms.values()]).sum().detach() / math.log(2)})

    def _guided(self, how: Sampling) -> Denoises:
        guided: Denoises = ClassifierFree(self, how.guidance) if self.space.classes else self
        return self._clipped(guided, how)

    def _clipped(self, model: Denoises, how: Sampling) -> Denoises:
        return clipped(model, self.space) if how.clip else model

    def _grid(self, how: Sampling) -> list[float]:
        return grid(how.grid, how.steps, how.path or self.path, None if how.path else self.ticks)

    def _own_grid(self) -> list[float]:
        """The model's own path, in as many of the steps of samples as it has."""
        how = self.config.sampling
        steps = how.steps if how.path is None or self.ticks is None else min(how.steps, self.ticks)
        return self._grid(how.model_copy(update={"path": None, "steps": steps}))

    def _flow(self, x: Tensor, times: Sequence[float]) -> Tensor:
        """Heun's method, which draws no noise."""
        unused = KeyedNoise(0, torch.arange(len(x), device=x.device), "unused")
        return integrate(self._clipped(self, self.config.sampling), Heun(), x, times, unused)


def _posterior(mean: Tensor, share: Tensor | None) -> Dirac | LearnedStep:
    return Dirac(mean) if share is None else LearnedStep(mean, share)


def _check(config: Config) -> None:
    """Raises RequestError where two choices do not go together."""
    path = config.path
    if config.weighting == "bound" and ticks(path) is None and not isinstance(path, LinearLogSnr | Learned):
        raise RequestError(
            "weighting=bound needs a path of T steps (linear-betas, cosine-betas, noise-levels), or some noise "
            "at t = 0 (linear-log-snr, learned)"
        )
    if config.weighting == "bound" and config.times.name != "uniform":
        raise RequestError(f"weighting=bound is the mean over even times; times={config.times.name} is of another loss")
    if config.coupling == "optimal-transport" and (config.weighting == "bound" or config.learned_variance):
        by = "weighting=bound" if config.weighting == "bound" else "learned_variance"
        raise RequestError(f"{by} is trained by a bound, whose noise knows nothing of its row: coupling=independent")
    if isinstance(path, Learned) and config.weighting != "bound":
        raise RequestError("path=learned is trained by weighting=bound, and by no other")
    if config.learned_variance and ticks(path) is None:
        raise RequestError("learned_variance needs a path of T steps: linear-betas, cosine-betas or noise-levels")
    if config.prediction in ("eps", "score") and not bool(path(torch.ones(1))[0] > 0):
        raise RequestError(
            f"prediction={config.prediction} says nothing of x_0 in pure noise, where this path ends: "
            "take v, velocity, x0 or edm"
        )
