r"""The auxiliary classifier GAN: the discriminator also names the class, and the generator must make it nameable.

.. math::
    L_D = E[\ell_D(D(x), D(G(z, c)))] - E[\log P(c | x)] - E[\log P(c | G(z, c))], \qquad
    L_G = E[\ell_G(D(G(z, c)))] - E[\log P(c | G(z, c))]

D sees no label: it shares its features with the classifier.

References:
    | Conditional Image Synthesis With Auxiliary Classifier GANs (Odena, Olah and Shlens, 2017), Equations 2 and 3
    | https://arxiv.org/abs/1610.09585
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
from reverie.maths.classes import named
from reverie.nn import tricks
from reverie.nn.discrimination import Discriminator

ADAM = OptimizerConfig(name="adam", lr=2e-4, betas=(0.5, 0.999))


class Config(tricks.GameConfig):
    """The model's configuration, and the tricks of ``nn/tricks.py``.

    Arguments:
        latent: the length of z, standard normal.
        classify: the weight of the two terms of the class.
        generator: the network of G, which takes the label.
        discriminator: the network of D, whose features name the class too.
        generator_optimizer: how G steps.
        discriminator_optimizer: how D steps.
        sampling: how samples are drawn.
    """

    latent: int = Field(100, ge=1)
    classify: float = Field(1.0, ge=0.0)
    generator: Choice = Choice(name="auto")
    discriminator: Choice = Choice(name="auto")
    generator_optimizer: OptimizerConfig = ADAM
    discriminator_optimizer: OptimizerConfig = ADAM
    sampling: tricks.Sampling = tricks.Sampling()


class ACGAN(core.Model):
    """Creates an auxiliary classifier GAN.

    Arguments:
        config: the model's configuration.
        space: what one row is, with at least two classes.
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
        if space.classes < 2:
            raise RequestError(
                "acgan needs labels of at least two classes: one subfolder a class, and data.condition=label"
            )
        self.tricks = tricks.Tricks(config, space)
        self.objective = config.game()
        self.generator = catalog.network("generator", config.generator, space, auto("dcgan"), latent=config.latent)
        unlabelled = replace(space, classes=0)
        discriminator = catalog.network("discriminator", config.discriminator, unlabelled, auto("dcgan"))
        assert isinstance(discriminator, Discriminator)
        self.discriminator = discriminator
        self.classes = nn.Linear(discriminator.feature_count, space.classes)
        self.tricks.begin([self.discriminator, self.classes], [self.generator])

    def players(self) -> Sequence[Player]:
        config = self.config
        return (
            Player(
                name="discriminator",
                modules=[self.discriminator, self.classes],
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
        """Equations 2 and 3 from the discriminator's side."""
        label = turn.batch.condition.label
        assert label is not None
        with torch.no_grad():
            fakes = self._fakes(turn)
        x, y = self.tricks.seen(turn.batch.x, turn, "real"), self.tricks.seen(fakes, turn, "fake")
        (real, real_classes), (fake, fake_classes) = self._judge(x), self._judge(y)
        terms = {
            "adversarial": self.objective.discriminator(*self.tricks.labelled(real, fake, turn)).mean(),
            "class of real": self.config.classify * named(real_classes, label),
            "class of fake": self.config.classify * named(fake_classes, label),
            **self.tricks.terms(self.score, x, y, turn),
            **self.tricks.history("discriminator"),
        }
        right = (real_classes.argmax(1) == label).sum() / (label >= 0).sum().clamp_min(1)
        figures, sums = self.tricks.told(real, fake, x)
        return Loss(terms, {"real": real.mean(), "fake": fake.mean(), **figures, "named": right}, sums)

    def generator_loss(self, turn: Turn) -> Loss:
        """Equations 2 and 3 from the generator's side."""
        fakes = self._fakes(turn)
        x, y = self.tricks.seen(turn.batch.x, turn, "real"), self.tricks.seen(fakes, turn, "fake")
        fake, classes = self._judge(y)
        real = fake
        if self.objective.paired:
            with torch.no_grad():
                real = self.score(x)
        terms = {
            "adversarial": self.tricks.adversarial * self.objective.generator(real, fake).mean(),
            "class of fake": self.config.classify * named(classes, turn.batch.condition.label),
            **self.tricks.matched(self.discriminator.features, x, y),
            **self.tricks.regularised(self.generator),
        }
        return Loss(terms, {"spread": fakes.detach().float().std(0, correction=0).mean()})

    def _judge(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The logit ``[B]`` of being real, and those of the classes ``[B, classes]``."""
        features = self.discriminator.features(x)
        with torch.autocast(x.device.type, enabled=False):
            return self.discriminator.head(features, None), self.classes(features.float())

    def _fakes(self, turn: Turn) -> Tensor:
        return self.generator(turn.noise.fork("z").normal(self.config.latent), turn.batch.condition)

    @property
    def latents(self) -> tuple[Space, ...]:
        """z and the label."""
        return (Space((self.config.latent,)), Space((1,), levels=self.space.classes))

    def decode(self, z: tuple[Tensor, ...]) -> Tensor:
        return self.generator(z[0], Condition(label=z[1].flatten()))

    def score(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self._judge(x)[0]

    def class_logits(self, x: Tensor) -> Tensor:
        """Returns logits of the classes, ``[B, classes]``."""
        return self._judge(x)[1]

    @torch.no_grad()
    def sample(self, noise: Noise, condition: Condition | None = None, how: tricks.Sampling | None = None) -> Tensor:
        """Returns one row for each row of ``noise``; labels that are not given are drawn uniformly."""
        label = noise.fork("label").integers(self.space.classes, 1)[:, 0]
        if condition is not None and condition.label is not None:
            label = torch.where(condition.label < 0, label, condition.label)
        z = tricks.latent(noise.fork("z"), self.config.latent, how or self.config.sampling)
        x = self.generator(z, Condition(label=label))
        return x.clamp(-1.0, 1.0) if self.space.is_image else x
