r"""The conditional GAN the other way round: G draws tags for a picture, D judges pairs of a picture and tags.

.. math::
    L_D = E[\ell_D(D(t, x), D(G(z, x), x))] + \sum_k \gamma_k R_k, \qquad L_G = E[\ell_G(D(t, x), D(G(z, x), x))]

with x a picture, t in :math:`\{0, 1\}^T` its tags, and :math:`R_k` penalties on the slope of D in the tags. Many draws
of z give many sets of tags for one picture, from which the most common are taken. Each player looks at pictures with an
encoder of its own, which it learns with the rest; the paper's was trained on ImageNet before, and kept.

G has no sigmoid at its end: D tells at once what is not quite 0 or 1, and behind a sigmoid that has gone flat G would
never hear of it.

References:
    | Conditional Generative Adversarial Nets (Mirza and Osindero, 2014), Section 4.2
    | https://arxiv.org/abs/1411.1784
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar

import torch
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
from reverie.nn.discrimination import Discriminator

ADAM = OptimizerConfig(name="adam", lr=2e-4, betas=(0.5, 0.999))


class Config(tricks.GameConfig):
    """The model's configuration, and the tricks of ``nn/tricks.py``, all but ``augment``: rows are tags here.

    Arguments:
        latent: the length of z, standard normal.
        objective: a name from ``maths/adversarial.py``.
        features: what each player's encoder makes of a picture, so many numbers.
        encoder: the network of both encoders.
        generator: the network of G, behind its encoder.
        discriminator: the network of D, behind its encoder.
        generator_optimizer: how G steps.
        discriminator_optimizer: how D steps.
        sampling: how samples are drawn.
    """

    latent: int = Field(100, ge=1)
    objective: str = "relativistic"
    features: int = Field(128, ge=1)
    encoder: Choice = Choice(name="auto")
    generator: Choice = Choice(name="mlp")
    discriminator: Choice = Choice(name="mlp")
    generator_optimizer: OptimizerConfig = ADAM
    discriminator_optimizer: OptimizerConfig = ADAM
    sampling: tricks.Sampling = tricks.Sampling()


class TagGAN(core.Model):
    """Creates a GAN that draws tags for pictures.

    Arguments:
        config: the model's configuration.
        space: what one row is: tags, conditioned on a picture.
        parts: none.

    Raises:
        RequestError: rows are not tags.
    """

    config: Config
    networks: ClassVar[dict[str, tuple[str, Choice]]] = {
        "generator": ("generator", auto("mlp")),
        "discriminator": ("discriminator", auto("mlp")),
    }

    def __init__(self, config: Config, space: Space, parts: Mapping[str, core.Part]) -> None:
        super().__init__(config, space, parts)
        if not space.picture:
            raise RequestError("this model draws tags for pictures: it needs data.condition=picture")
        self.objective = config.game()
        features, pictures = config.features, Space(space.picture)
        self.tricks = tricks.Tricks(config, space)
        self.encoder = catalog.network("encoder", config.encoder, pictures, auto("conv"), outputs=features)
        latent = config.latent + features
        self.generator = catalog.network("generator", config.generator, space, auto("mlp"), latent=latent)
        pair = replace(space, shape=(space.size + features,))
        self.critic_encoder = catalog.network("encoder", config.encoder, pictures, auto("conv"), outputs=features)
        discriminator = catalog.network("discriminator", config.discriminator, pair, auto("mlp"))
        assert isinstance(discriminator, Discriminator)
        self.discriminator = discriminator
        self.tricks.begin([self.critic_encoder, self.discriminator], [self.encoder, self.generator])

    def players(self) -> Sequence[Player]:
        config = self.config
        return (
            Player(
                name="discriminator",
                modules=[self.critic_encoder, self.discriminator],
                loss=self.discriminator_loss,
                optimizer=config.discriminator_optimizer,
                turns=config.discriminator_turns,
                after_turn=partial(self.tricks.after_turn, [self.critic_encoder, self.discriminator]),
                compile=not config.penalties,  # gradient penalties differentiate twice
            ),
            Player(
                name="generator",
                modules=[self.encoder, self.generator],
                loss=self.generator_loss,
                optimizer=config.generator_optimizer,
                after_turn=self.tricks.after_generator,
            ),
        )

    def notes(self) -> Sequence[str]:
        return self.tricks.notes([self.discriminator])  # the slope that counts is in the tags

    def averaged(self) -> Sequence[nn.Module]:
        return (self.encoder, self.generator)

    def discriminator_loss(self, turn: Turn) -> Loss:
        """Equation 2 from the discriminator's side, with the tags in the image's place."""
        with torch.no_grad():
            fakes = self._fakes(turn)
        seen = self.critic_encoder(_picture(turn.batch.condition))
        t, y = self.tricks.seen(turn.batch.x, turn, "real"), self.tricks.seen(fakes, turn, "fake")
        real, fake = self._judge(t, seen), self._judge(y, seen)
        terms = {
            "adversarial": self.objective.discriminator(*self.tricks.labelled(real, fake, turn)).mean(),
            **self.tricks.terms(partial(self._judge, seen=seen), t, y, turn),
            **self.tricks.history("discriminator"),
        }
        figures, sums = self.tricks.told(real, fake, t)
        return Loss(terms, {"real": real.mean(), "fake": fake.mean(), **figures}, sums)

    def generator_loss(self, turn: Turn) -> Loss:
        """Equation 2 from the generator's side."""
        fakes = self._fakes(turn)
        seen = self.critic_encoder(_picture(turn.batch.condition))
        t, y = self.tricks.seen(turn.batch.x, turn, "real"), self.tricks.seen(fakes, turn, "fake")
        fake = real = self._judge(y, seen)
        if self.objective.paired:
            with torch.no_grad():
                real = self._judge(t, seen)
        terms = {
            "adversarial": self.tricks.adversarial * self.objective.generator(real, fake).mean(),
            **self.tricks.matched(partial(self._features, seen=seen), t, y),
            **self.tricks.regularised(self.generator),
        }
        figures = {"spread": fakes.detach().float().std(0, correction=0).mean(), "tags": fakes.detach().sum(1).mean()}
        return Loss(terms, figures)

    def _fakes(self, turn: Turn) -> Tensor:
        z = turn.noise.fork("z").normal(self.config.latent)
        return self._drawn(z, self.encoder(_picture(turn.batch.condition)))

    def _drawn(self, z: Tensor, seen: Tensor) -> Tensor:
        """Tags, ``[B, T]``, near 0 or 1 where G has learned that they are."""
        tags: Tensor = self.generator(torch.cat([z, seen], dim=1)).float()
        return tags

    def _features(self, tags: Tensor, seen: Tensor) -> Tensor:
        return self.discriminator.features(torch.cat([tags, seen], dim=1))

    def _judge(self, tags: Tensor, seen: Tensor) -> Tensor:
        logits: Tensor = self.discriminator(torch.cat([tags, seen], dim=1))
        return logits

    def score(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self._judge(x, self.critic_encoder(_picture(condition)))

    def tag(self, x: Tensor, noise: Noise, draws: int) -> Tensor:
        """Returns how often each tag is drawn for each picture, ``[B, T]`` in [0, 1]."""
        seen = self.encoder(x)
        length, how = self.config.latent, self.config.sampling
        votes = [self._drawn(tricks.latent(noise.fork(f"draw {k}"), length, how), seen) for k in range(draws)]
        return torch.stack(votes).clamp(0.0, 1.0).mean(0)

    @torch.no_grad()
    def sample(self, noise: Noise, condition: Condition | None = None, how: tricks.Sampling | None = None) -> Tensor:
        """Returns tags for the picture of each row, in [0, 1]."""
        z = tricks.latent(noise.fork("z"), self.config.latent, how or self.config.sampling)
        return self._drawn(z, self.encoder(_picture(condition))).clamp(0.0, 1.0)


def _picture(condition: Condition | None) -> Tensor:
    assert condition is not None, "tags are drawn for a picture"
    assert condition.image is not None, "tags are drawn for a picture"
    return condition.image
