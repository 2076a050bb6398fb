r"""The creative adversarial network: art that a discriminator takes for art, and cannot place in a style.

.. math::
    L_D = E[\ell_D(D(x), D(G(z)))] - E[\log P(c | x)], \qquad
    L_G = E[\ell_G(D(G(z)))] - \lambda\, E \sum_k \Big( \tfrac1K \log P(k | G(z)) +
    \big(1 - \tfrac1K\big) \log (1 - P(k | G(z))) \Big)

with the classes of the data for styles. The ambiguity is least where all K styles are as likely.

References:
    | CAN: Creative Adversarial Networks, Generating "Art" by Learning About Styles and Deviating from Style Norms
    | (Elgammal, Liu, Elhoseiny and Mazzone, 2017), Equation 2
    | https://arxiv.org/abs/1706.07068
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
from reverie.maths.classes import ambiguity, named
from reverie.nn import tricks
from reverie.nn.discrimination import Discriminator

ADAM = OptimizerConfig(name="adam", lr=2e-4, betas=(0.5, 0.999))


class Config(tricks.GameConfig):
    """The model's configuration, and the tricks of ``nn/tricks.py``.

    Arguments:
        latent: the length of z, standard normal.
        ambiguity: lambda, the weight of being of no style.
        generator: the network of G.
        discriminator: the network of D, whose features name the style too.
        generator_optimizer: how G steps.
        discriminator_optimizer: how D steps.
        sampling: how samples are drawn.
    """

    latent: int = Field(100, ge=1)
    ambiguity: float = Field(1.0, ge=0.0)
    generator: Choice = Choice(name="auto")
    discriminator: Choice = Choice(name="auto")
    generator_optimizer: OptimizerConfig = ADAM
    discriminator_optimizer: OptimizerConfig = ADAM
    sampling: tricks.Sampling = tricks.Sampling()


class CAN(core.Model):
    """Creates a creative adversarial network; its samples are of no given class.

    Arguments:
        config: the model's configuration.
        space: what one row is, with at least two classes, the styles.
        parts: none.

    Raises:
        RequestError: there are fewer than two classes.
    """

    config: Config
    networks: ClassVar[dict[str, tuple[str, Choice]]] = {
        "generator": ("generator", auto("dcgan")),
        "discriminator": ("discriminator", auto("dcgan")),
    }

    def __init__(self, config: Config, space: Space, parts: Mapping[str, core.Part]) -> None:
        super().__init__(config, space, parts)
        self.space = bare = replace(space, classes=0)
        if space.classes < 2:
            raise RequestError("can needs at least two styles: one subfolder a style, and data.condition=label")
        self.tricks = tricks.Tricks(config, space)
        self.objective = config.game()
        self.generator = catalog.network("generator", config.generator, bare, auto("dcgan"), latent=config.latent)
        discriminator = catalog.network("discriminator", config.discriminator, bare, auto("dcgan"))
        assert isinstance(discriminator, Discriminator)
        self.discriminator = discriminator
        self.styles = nn.Linear(discriminator.feature_count, space.classes)
        self.tricks.begin([self.discriminator, self.styles], [self.generator])
        self.latents = (Space((config.latent,)),)

    def players(self) -> Sequence[Player]:
        config = self.config
        return (
            Player(
                name="discriminator",
                modules=[self.discriminator, self.styles],
                loss=self.discriminator_loss,
                optimizer=config.discriminator_optimizer,
                turns=config.discriminator_turns,
                after_turn=partial(self.tricks.after_turn, [self.discriminator]),
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

    def notes(self) -> Sequence[str]:
        return self.tricks.notes([self.discriminator])

    def averaged(self) -> Sequence[nn.Module]:
        return (self.generator,)

    def discriminator_loss(self, turn: Turn) -> Loss:
        """The game, and the style of real rows."""
        with torch.no_grad():
            fakes = self._fakes(turn.noise)
        x, y = self.tricks.seen(turn.batch.x, turn, "real"), self.tricks.seen(fakes, turn, "fake")
        (real, styles), (fake, _) = self._judge(x), self._judge(y)
        terms = {
            "adversarial": self.objective.discriminator(*self.tricks.labelled(real, fake, turn)).mean(),
            "style": named(styles, turn.batch.condition.label),
            **self.tricks.terms(self.score, x, y, turn),
            **self.tricks.history("discriminator"),
        }
        figures, sums = self.tricks.told(real, fake, x)
        return Loss(terms, {"real": real.mean(), "fake": fake.mean(), **figures}, sums)

    def generator_loss(self, turn: Turn) -> Loss:
        """The game from the other side, and the ambiguity of style."""
        fakes = self._fakes(turn.noise)
        x, y = self.tricks.seen(turn.batch.x, turn, "real"), self.tricks.seen(fakes, turn, "fake")
        fake, styles = self._judge(y)
        real = fake
        if self.objective.paired:
            with torch.no_grad():
                real = self.score(x)
        terms = {
            "adversarial": self.tricks.adversarial * self.objective.generator(real, fake).mean(),
            "ambiguity": self.config.ambiguity * ambiguity(styles).mean(),
            **self.tricks.matched(self.discriminator.features, x, y),
            **self.tricks.regularised(self.generator),
        }
        return Loss(terms, {"spread": fakes.detach().float().std(0, correction=0).mean()})

    def _judge(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The logit ``[B]`` of being art, and those of the styles ``[B, K]``."""
        features = self.discriminator.features(x)
        with torch.autocast(x.device.type, enabled=False):
            return self.discriminator.head(features, None), self.styles(features.float())

    def _fakes(self, noise: Noise, how: tricks.Sampling | None = None) -> Tensor:
        return self.generator(tricks.latent(noise.fork("z"), self.config.latent, how), None)

    def decode(self, z: tuple[Tensor, ...]) -> Tensor:
        return self.generator(z[0], None)

    def score(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self._judge(x)[0]

    def class_logits(self, x: Tensor) -> Tensor:
        """Returns logits of the styles, ``[B, K]``."""
        return self._judge(x)[1]

    @torch.no_grad()
    def sample(self, noise: Noise, condition: Condition | None = None, how: tricks.Sampling | None = None) -> Tensor:
        """Returns one row for each row of ``noise``."""
        x = self._fakes(noise, how or self.config.sampling)
        return x.clamp(-1.0, 1.0) if self.space.is_image else x
