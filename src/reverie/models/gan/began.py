r"""BEGAN: an autoencoder for a discriminator, kept in balance with the generator by a controller.

.. math::
    L_D &= E[L(x)] - k_t\, E[L(G(z_D))], \qquad L_G = E[L(G(z_G))], \qquad L(v) = \lvert v - D(v) \rvert \\
    k_{t+1} &= \mathrm{clamp}_{[0, 1]}\big(k_t + \lambda_k (\gamma E[L(x)] - E[L(G(z_G))])\big) \\
    M &= E[L(x)] + \lvert \gamma E[L(x)] - E[L(G(z_G))] \rvert

L is the mean absolute error of a value. M falls as training converges: the journal has it.

References:
    | BEGAN: Boundary Equilibrium Generative Adversarial Networks (Berthelot, Schumm and Metz, 2017), Section 3.3
    | https://arxiv.org/abs/1703.10717
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from reverie.core import catalog
from reverie.core import model as core
from reverie.core.batch import Condition
from reverie.core.choice import Choice, auto
from reverie.core.noise import Noise
from reverie.core.player import Loss, OptimizerConfig, Player, Turn
from reverie.core.space import Space
from reverie.nn import tricks

ADAM = OptimizerConfig(name="adam", lr=1e-4, betas=(0.5, 0.999))


class Config(tricks.Config):
    """The model's configuration, and the tricks of ``nn/tricks.py``.

    Arguments:
        latent: the length of z, uniform on [-1, 1], and of the autoencoder's code.
        diversity: gamma, the ratio E[L(G(z))] / E[L(x)] that is aimed at: less is cleaner, more is more varied.
        control: lambda_k, how fast k follows.
        generator: the decoder network that is G.
        encoder: the encoder of D.
        decoder: the decoder of D.
        generator_optimizer: how G steps.
        discriminator_optimizer: how D steps.
        sampling: how samples are drawn.
    """

    latent: int = Field(64, ge=1)
    diversity: float = Field(0.5, gt=0.0, le=1.0)
    control: float = Field(1e-3, gt=0.0)
    generator: Choice = Choice(name="auto")
    encoder: Choice = Choice(name="auto")
    decoder: Choice = Choice(name="auto")
    generator_optimizer: OptimizerConfig = ADAM
    discriminator_optimizer: OptimizerConfig = ADAM
    sampling: tricks.UniformSampling = tricks.UniformSampling()

    refused: ClassVar[Mapping[str, str]] = tricks.ENERGIES


class BEGAN(core.Model):
    """Creates a boundary equilibrium GAN; with classes, all three networks see the label.

    Arguments:
        config: the model's configuration.
        space: what one row is.
        parts: none.
    """

    config: Config
    balance: Tensor
    networks: ClassVar[dict[str, tuple[str, Choice]]] = {
        "generator": ("decoder", auto("conv")),
        "encoder": ("encoder", auto("conv")),
        "decoder": ("decoder", auto("conv")),
    }

    def __init__(self, config: Config, space: Space, parts: Mapping[str, core.Part]) -> None:
        super().__init__(config, space, parts)
        self.tricks = tricks.Tricks(config, space)
        latent, choice = config.latent, auto("conv")
        self.generator = catalog.network("decoder", config.generator, space, choice, latent=latent, outputs=1)
        self.encoder = catalog.network("encoder", config.encoder, space, choice, outputs=latent)
        self.decoder = catalog.network("decoder", config.decoder, space, choice, latent=latent, outputs=1)
        self.tricks.begin([self.encoder, self.decoder], [self.generator])
        self.register_buffer("balance", torch.zeros(()))  # k

    def players(self) -> Sequence[Player]:
        config = self.config
        return (
            Player(
                name="discriminator",
                modules=[self.encoder, self.decoder],
                loss=self.discriminator_loss,
                optimizer=config.discriminator_optimizer,
                turns=config.discriminator_turns,
                after_turn=partial(self.tricks.after_turn, [self.encoder, self.decoder]),
                compile=not config.penalties,
            ),
            Player(
                name="generator",
                modules=[self.generator],
                loss=self.generator_loss,
                optimizer=config.generator_optimizer,
                after_turn=self._control,
            ),
        )

    def averaged(self) -> Sequence[nn.Module]:
        return (self.generator,)

    def discriminator_loss(self, turn: Turn) -> Loss:
        """The objective's first line."""
        condition = turn.batch.condition
        with torch.no_grad():
            fakes = self._fakes(turn.noise, condition)
        x, y = self.tricks.seen(turn.batch.x, turn, "real"), self.tricks.seen(fakes, turn, "fake")
        real, fake = self.error(x, condition), self.error(y, condition)
        terms = {"real": real.mean(), "fake": -self.balance * fake.mean()}
        terms |= self.tricks.terms(partial(self.score, condition=condition), x, y, turn)
        terms |= self.tricks.history("discriminator")
        # Its D is better at real rows on purpose: how often is not a sign of health, and not journalled without need.
        told, sums = self.tricks.told(-real, -fake, x)
        figures = told if self.config.augment else {}
        return Loss(terms, {"error of fake": fake.mean(), "k": self.balance.clone(), **figures}, sums)

    def generator_loss(self, turn: Turn) -> Loss:
        """The objective's second line; the figures are what the controller and the convergence measure need."""
        condition = turn.batch.condition
        fakes = self._fakes(turn.noise, condition)
        x, y = self.tricks.seen(turn.batch.x, turn, "real"), self.tricks.seen(fakes, turn, "fake")
        fake = self.error(y, condition).mean()
        with torch.no_grad():
            real = self.error(x, condition).mean()
        apart = self.config.diversity * real - fake.detach()
        spread = fakes.detach().float().std(0, correction=0).mean()
        terms = {
            "fake": self.tricks.adversarial * fake,
            **self.tricks.matched(partial(self.encoder, condition=condition), x, y),
            **self.tricks.regularised(self.generator),
        }
        return Loss(terms, {"balance": apart, "convergence": real + apart.abs(), "spread": spread})

    def _control(self, loss: Loss) -> None:
        """The third line; without the clamp k could turn the game around."""
        self.tricks.after_generator(loss)
        self.balance.add_(self.config.control * loss.figures["balance"]).clamp_(0.0, 1.0)

    def error(self, x: Tensor, condition: Condition | None) -> Tensor:
        """L: the mean absolute error of each row's reconstruction, ``[B]``."""
        rebuilt = self.decoder(self.encoder(x, condition), condition)[:, 0]
        return (rebuilt - x).abs().flatten(1).mean(1)

    def _fakes(self, noise: Noise, condition: Condition | None) -> Tensor:
        # No tanh, here and in D: where an image is mostly background it is soon flat, and nothing can be learnt.
        return self.generator(noise.fork("z").uniform(self.config.latent) * 2.0 - 1.0, condition)[:, 0]

    @property
    def latents(self) -> tuple[Space, ...]:
        """z, and the label where there are labels."""
        z = Space((self.config.latent,), between=(-1.0, 1.0))
        return (z, Space((1,), levels=self.space.classes)) if self.space.classes else (z,)

    def decode(self, z: tuple[Tensor, ...]) -> Tensor:
        label = z[1].flatten() if self.space.classes else None
        return self.generator(z[0], Condition(label=label))[:, 0]

    def score(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """The negative error: what the autoencoder knows well is like the data."""
        return -self.error(x, condition)

    @torch.no_grad()
    def sample(self, noise: Noise, condition: Condition | None = None, how: Any = None) -> Tensor:
        """Returns one row for each row of ``noise``; labels that are not given are drawn uniformly."""
        if self.space.classes:
            label = noise.fork("label").integers(self.space.classes, 1)[:, 0]
            if condition is not None and condition.label is not None:
                label = torch.where(condition.label < 0, label, condition.label)
            condition = Condition(label=label)
        x = self._fakes(noise, condition)
        return x.clamp(-1.0, 1.0) if self.space.is_image else x
