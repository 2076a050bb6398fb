r"""Palette and SR3: a denoiser that sees a spoilt image beside the noisy one restores it.

.. math:: L = E_{t, x_0, \epsilon, y} \lVert u_\theta(x_t, y, t) - (\epsilon - x_0) \rVert^2, \quad
    x_t = (1 - t) x_0 + t \epsilon

where y is made from x_0 itself (a lower resolution, a hole, no colours) and concatenated to x_t. The papers predict the
noise on a variance-preserving path; here it is the velocity on the straight one, which says the same and needs fewer
steps.

References:
    | Image Super-Resolution via Iterative Refinement (Saharia et al., 2021)
    | https://arxiv.org/abs/2104.07636
    | Palette: Image-to-Image Diffusion Models (Saharia et al., 2022)
    | https://arxiv.org/abs/2111.05826
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from reverie.core.model import C
from reverie.core.noise import Noise
from reverie.core.player import Loss, OptimizerConfig, Player, Turn
from reverie.core.space import Space
from reverie.maths import predictions
from reverie.maths.degradations import Colourisation, Degradation, Inpainting, SuperResolution, resized
from reverie.maths.paths import Straight, per_row
from reverie.maths.posteriors import Dirac
from reverie.maths.times import MOST_STEPS, even, logit_normal, time_grid
from reverie.samplers.euler import Euler
from reverie.samplers.guidance.classifier_free import ClassifierFree, drop_labels
from reverie.samplers.integrate import Watch, integrate
from reverie.samplers.solver import SolverChoice


class Sampling(core.Sampling):
    """How samples are drawn.

    Arguments:
        steps: steps from noise to data.
        solver: a file of ``samplers/``: ``euler``, ``heun`` (two evaluations a step) …
        guidance: classifier-free guidance towards the label; 1 is the conditional model itself.
    """

    steps: int = Field(25, ge=1, le=MOST_STEPS)
    solver: SolverChoice = Euler()
    guidance: float = Field(1.0, ge=0)


class Config(core.ModelConfig):
    """The model's configuration.

    Arguments:
        network: the denoiser.
        task: what is done to images: ``super-resolution``, ``inpainting``, ``colourisation``.
        factor: how many times smaller the sides of the image are that super-resolution starts from.
        hole: the least and the greatest side of inpainting's hole, as shares of the image's.
        regression: no diffusion: the same network, shown y alone, puts out the mean of x_0 given y. It is what the
            papers compare with; samples are that mean, whatever the noise.
        times: how t is drawn in training: ``uniform``, or ``logit-normal``, mostly between data and noise.
        location: of the logit-normal; above 0 for more noise.
        scale: of the logit-normal.
        drop_label: the share of labels dropped in training, for guidance.
        optimizer: how the denoiser steps.
        sampling: how samples are drawn.
    """

    network: Choice = Choice(name="auto")
    task: Literal["super-resolution", "inpainting", "colourisation"] = "super-resolution"
    factor: int = Field(4, ge=2)
    hole: tuple[float, float] = (0.25, 0.75)
    regression: bool = False
    times: Literal["uniform", "logit-normal"] = "logit-normal"
    location: float = 0.0
    scale: float = Field(1.0, gt=0)
    drop_label: float = Field(0.1, ge=0, le=1)
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-3, warmup=100, clip=1.0)
    sampling: Sampling = Sampling()


class Palette(core.Model):
    """Creates a model that restores images.

    Arguments:
        config: its configuration.
        space: what one row is.
        parts: none.

    Raises:
        RequestError: rows are integers, or there is nothing to restore in them.
    """

    config: Config
    networks: ClassVar[dict[str, tuple[str, Choice]]] = {"network": ("denoiser", auto("unet"))}

    def __init__(self, config: Config, space: Space, parts: Mapping[str, core.Part]) -> None:
        super().__init__(config, space, parts)
        if space.levels is not None:
            raise RequestError("palette needs continuous rows, not integers")
        smallest, largest = config.hole
        if not 0 < smallest <= largest < 1:
            raise RequestError(
                f"hole = [{smallest:g}, {largest:g}]: shares of a side, between 0 and 1, the least first"
            )
        tasks: dict[str, Degradation] = {
            "super-resolution": SuperResolution(config.factor),
            "inpainting": Inpainting(smallest, largest),
            "colourisation": Colourisation(),
        }
        self.degradation = tasks[config.task]
        self.path = Straight()
        self.space = replace(space, maps=self.degradation.maps(space))
        role, choice = self.networks["network"]
        self.network = catalog.network(role, config.network, self.space, choice)

    def players(self) -> Sequence[Player]:
        return (Player(name="denoiser", modules=(self.network,), loss=self.loss, optimizer=self.config.optimizer),)

    def averaged(self) -> Sequence[nn.Module]:
        return (self.network,)

    def observe(self, x: Tensor, noise: Noise) -> Tensor:
        """What is seen of rows x, ``[B, maps, H, W]``."""
        return self.degradation(x, noise)

    def loss(self, turn: Turn) -> Loss:
        """The squared error of the velocity, or of the regression, averaged over the values of a row."""
        x_0, config = turn.batch.x, self.config
        condition = drop_labels(turn.batch.condition, turn.noise.fork("drop"), config.drop_label)
        condition = replace(condition, image=self.observe(x_0, turn.noise.fork("degradation")))
        if config.regression:
            return Loss(terms={"error": (self._mean(condition, x_0) - x_0).square().mean()})
        eps = turn.noise.fork("eps").normal(*self.space.shape)
        t = even(turn.noise.ids)
        if config.times == "logit-normal":
            t = logit_normal(t, config.location, config.scale)
        alpha_t, sigma_t = (per_row(a, x_0) for a in self.path(t))
        output = self.velocity(alpha_t * x_0 + sigma_t * eps, t, condition)
        target = predictions.target("velocity", x_0, eps, alpha_t, sigma_t)
        return Loss(terms={"velocity": (output - target).square().mean()})

    def velocity(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        """E[eps - x_0 | x_t, y], ``[B, ...]``."""
        alpha_t, sigma_t = (per_row(a, x_t) for a in self.path(t))
        # Rows of unit variance reach the network with unit variance at every t.
        output: Tensor = self.network(x_t * torch.rsqrt(alpha_t**2 + sigma_t**2), t, condition)
        return output.to(x_t.dtype)

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Dirac:
        alpha_t, sigma_t = (per_row(a, x_t) for a in self.path(t))
        return Dirac(predictions.clean("velocity", self.velocity(x_t, t, condition), x_t, alpha_t, sigma_t))

    def enter(self, x: Tensor) -> Tensor:
        return x

    def leave(self, z: Tensor) -> Tensor:
        return z

    def sample(
        self, noise: Noise, condition: Condition | None = None, how: Sampling | None = None, watch: Watch | None = None
    ) -> Tensor:
        """Restores ``condition.image``: what ``observe`` makes, or an image of fewer pixels.

        What was seen for certain is kept exactly.

        Raises:
            RequestError: there is no image, or it does not fit.
        """
        how, condition = how or self.config.sampling, condition or Condition()
        if condition.image is None:
            raise RequestError(f"this model restores images ({self.config.task}): give it some as condition.image")
        condition = self._enlarged(condition, condition.image)
        x = noise.normal(*self.space.shape)
        if self.config.regression:
            x = self._mean(condition, x)
        else:
            model = ClassifierFree(self, how.guidance) if self.space.classes else self
            x = integrate(model, how.solver, x, time_grid(how.steps), noise, condition, watch)
        assert condition.image is not None
        x = self.degradation.keep(x, condition.image.to(x.dtype))
        return x.clamp(-1, 1) if self.space.depth else x

    def view(self, kind: type[C]) -> C | None:
        return None if self.config.regression and kind is Denoises else super().view(kind)

    def _mean(self, condition: Condition, like: Tensor) -> Tensor:
        """The regression of x_0 on y, ``[B, ...]``."""
        output: Tensor = self.network(torch.zeros_like(like), like.new_ones(len(like)), condition)
        return output.to(like.dtype)

    def _enlarged(self, condition: Condition, image: Tensor) -> Condition:
        """The condition with an image of fewer pixels enlarged as in training."""
        shape = self.space.shape
        if not self.space.is_image or image.shape[2:] == shape[1:]:
            return condition
        if self.config.task == "inpainting":
            raise RequestError(f"the image and its mask must be {shape[1]} × {shape[2]} pixels, as in training")
        return replace(condition, image=resized(image, *shape[1:]))
