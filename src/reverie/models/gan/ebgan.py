r"""EBGAN: the discriminator is an energy, the squared error of an autoencoder, pushed up on generated rows to a margin.

.. math::
    L_D = E[D(x)] + E[\max(0, m - D(G(z)))], \qquad L_G = E[D(G(z))] + \lambda f_{PT}, \qquad
    D(v) = \tfrac1n \lVert \mathrm{Dec}(\mathrm{Enc}(v)) - v \rVert^2

The pull-away term keeps the codes S of generated rows from pointing one way,

.. math:: f_{PT}(S) = \frac{1}{N (N - 1)} \sum_{i \neq j}
    \Big( \frac{S_i^\top S_j}{\lVert S_i \rVert \lVert S_j \rVert} \Big)^2

References:
    | Energy-based Generative Adversarial Networks (Zhao, Mathieu and LeCun, 2017), Equations 1, 2 and 4
    | https://arxiv.org/abs/1609.03126
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reverie.core import catalog
from reverie.core import model as core
from reverie.core.batch import Condition
from reverie.core.choice import Choice, auto
from reverie.core.errors import RequestError
from reverie.core.noise import Noise
from reverie.core.player import Loss, OptimizerConfig, Player, Turn
from reverie.core.space import Space
from reverie.nn import tricks

ADAM = OptimizerConfig(name="adam", lr=2e-4, betas=(0.5, 0.999))


class Config(tricks.Config):
    """The model's configuration, and the tricks of ``nn/tricks.py``.

    Arguments:
        latent: the length of z, standard normal.
        code: the length of the autoencoder's code.
        margin: m, the energy to which generated rows are pushed up.
        pull_away: lambda, the weight of the pull-away term.
        generator: the network of G.
        encoder: the encoder of D.
        decoder: the decoder of D.
        generator_optimizer: how G steps.
        discriminator_optimizer: how D steps.
        sampling: how samples are drawn.
    """

    latent: int = Field(100, ge=1)
    code: int = Field(64, ge=1)
    margin: float = Field(0.2, gt=0.0)
    pull_away: float = Field(0.1, ge=0.0)
    generator: Choice = Choice(name="auto")
    encoder: Choice = Choice(name="auto")
    decoder: Choice = Choice(name="auto")
    generator_optimizer: OptimizerConfig = ADAM
    discriminator_optimizer: OptimizerConfig = ADAM
    sampling: tricks.Sampling = tricks.Sampling()

    refused: ClassVar[Mapping[str, str]] = tricks.ENERGIES


class EBGAN(core.Model):
    """Creates an energy-based GAN; with classes, all three networks see the label.

    Arguments:
        config: the model's configuration.
        space: what one row is.
        parts: none.
    """

    config: Config
    networks: ClassVar[dict[str, tuple[str, Choice]]] = {
        "generator": ("generator", auto("dcgan")),
        "encoder": ("encoder", auto("conv")),
        "decoder": ("decoder", auto("conv")),
    }

    def __init__(self, config: Config, space: Space, parts: Mapping[str, core.Part]) -> None:
        super().__init__(config, space, parts)
        self.tricks = tricks.Tricks(config, space)
        code, choice = config.code, auto("conv")
        self.generator = catalog.network("generator", config.generator, space, auto("dcgan"), latent=config.latent)
        self.encoder = catalog.network("encoder", config.encoder, space, choice, outputs=code)
        self.decoder = catalog.network("decoder", config.decoder, space, choice, latent=code, outputs=1)
        self.tricks.begin([self.encoder, self.decoder], [self.generator])

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
                after_turn=self.tricks.after_generator,
            ),
        )

    def averaged(self) -> Sequence[nn.Module]:
        return (self.generator,)

    def discriminator_loss(self, turn: Turn) -> Loss:
        """Equation 1."""
        condition = turn.batch.condition
        with torch.no_grad():
            fakes = self._fakes(turn.noise, condition)
        x, y = self.tricks.seen(turn.batch.x, turn, "real"), self.tricks.seen(fakes, turn, "fake")
        real, fake = self._energy(x, condition)[0], self._energy(y, condition)[0]
        terms = {"real": real.mean(), "fake": F.relu(self.config.margin - fake).mean()}
        terms |= self.tricks.terms(partial(self.score, condition=condition), x, y, turn)
        terms |= self.tricks.history("discriminator")
        figures, sums = self.tricks.told(-real, -fake, x)
        return Loss(terms, {"energy of fake": fake.mean(), **figures}, sums)

    def generator_loss(self, turn: Turn) -> Loss:
        """Equation 2, with the pull-away term of Equation 4."""
        condition = turn.batch.condition
        fakes = self._fakes(turn.noise, condition)
        x, y = self.tricks.seen(turn.batch.x, turn, "real"), self.tricks.seen(fakes, turn, "fake")
        energy, code = self._energy(y, condition)
        terms = {
            "energy": self.tricks.adversarial * energy.mean(),
            "pull-away": self.config.pull_away * pull_away(code),
            **self.tricks.matched(partial(self.encoder, condition=condition), x, y),
            **self.tricks.regularised(self.generator),
        }
        return Loss(terms, {"spread": fakes.detach().float().std(0, correction=0).mean()})

    def _energy(self, x: Tensor, condition: Condition | None) -> tuple[Tensor, Tensor]:
        """D(x) ``[B]``, and the code ``[B, code]``."""
        code = self.encoder(x, condition)
        y = self.decoder(code, condition)[:, 0]  # without tanh, which soon is flat on a mostly empty image
        return (y - x).square().flatten(1).mean(1), code

    def _fakes(self, noise: Noise, condition: Condition | None, how: tricks.Sampling | None = None) -> Tensor:
        return self.generator(tricks.latent(noise.fork("z"), self.config.latent, how), condition)

    @property
    def latents(self) -> tuple[Space, ...]:
        """z, and the label where there are labels."""
        z = Space((self.config.latent,))
        return (z, Space((1,), levels=self.space.classes)) if self.space.classes else (z,)

    def decode(self, z: tuple[Tensor, ...]) -> Tensor:
        label = z[1].flatten() if self.space.classes else None
        return self.generator(z[0], Condition(label=label))

    def score(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """The negative energy."""
        return -self._energy(x, condition)[0]

    @torch.no_grad()
    def sample(self, noise: Noise, condition: Condition | None = None, how: tricks.Sampling | None = None) -> Tensor:
        """Returns one row for each row of ``noise``; labels that are not given are drawn uniformly."""
        if self.space.classes:
            label = noise.fork("label").integers(self.space.classes, 1)[:, 0]
            if condition is not None and condition.label is not None:
                label = torch.where(condition.label < 0, label, condition.label)
            condition = Condition(label=label)
        x = self._fakes(noise, condition, how or self.config.sampling)
        return x.clamp(-1.0, 1.0) if self.space.is_image else x


def pull_away(codes: Tensor) -> Tensor:
    """The mean squared cosine of the codes ``[N, S]`` of different rows.

    Raises:
        RequestError: there is one row.
    """
    if len(codes) < 2:
        raise RequestError("the pull-away term compares the rows of a step, here one: raise train.batch")
    directions = F.normalize(codes.float(), dim=1)
    squares = (directions @ directions.T).square()
    return (squares.sum() - squares.diagonal().sum()) / (len(codes) * (len(codes) - 1))
