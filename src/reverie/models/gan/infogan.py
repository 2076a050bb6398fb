r"""InfoGAN: a part of the latent, the codes c, must be readable from what is generated, and so comes to mean something.

.. math:: \min_{G, Q} \max_D V(D, G) - \lambda L_I(G, Q), \qquad L_I = E_{c, x \sim G(z, c)} \log Q(c | x) + H(c)
    \le I(c; G(z, c))

Q is one more head on D's features: a softmax for each categorical code, and a normal of learnt mean for each continuous
one, which is uniform on [-1, 1]. The normal's deviation is 1, as in the authors' program for such codes: a learnt one
falls, since a code can be written into an image almost without error, until that term outweighs all others. H(c) is
constant and left out.

References:
    | InfoGAN: Interpretable Representation Learning by Information Maximizing Generative Adversarial Nets
    | (Chen et al., 2016), Equations 5 and 6
    | https://arxiv.org/abs/1606.03657
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from reverie.core import catalog
from reverie.core import model as core
from reverie.core.batch import Condition
from reverie.core.choice import Choice, auto
from reverie.core.noise import Noise
from reverie.core.player import Loss, OptimizerConfig, Player, Turn
from reverie.core.space import Space
from reverie.nn import tricks
from reverie.nn.discrimination import Discriminator
from reverie.nn.label import unseen_labels

ADAM = OptimizerConfig(name="adam", lr=2e-4, betas=(0.5, 0.999))
HIDDEN = 128


class Config(tricks.GameConfig):
    """The model's configuration, and the tricks of ``nn/tricks.py``.

    Arguments:
        latent: the length of z, standard normal: what the codes do not tell.
        categories: the values of each categorical code, two or more.
        continuous: how many continuous codes there are.
        information: lambda, of categorical codes.
        continuous_information: lambda of continuous codes; smaller, so that it is on the scale of the game (Section 6).
        generator: the network of G; it sees z and the codes as one vector.
        discriminator: the network of D, whose features Q reads too.
        generator_optimizer: how G and Q step.
        discriminator_optimizer: how D steps.
        sampling: how samples are drawn.
    """

    latent: int = Field(62, ge=1)
    categories: tuple[Annotated[int, Field(ge=2)], ...] = (10,)
    continuous: int = Field(2, ge=0)
    information: float = Field(1.0, ge=0.0)
    continuous_information: float = Field(0.1, ge=0.0)
    generator: Choice = Choice(name="auto")
    discriminator: Choice = Choice(name="auto")
    generator_optimizer: OptimizerConfig = ADAM
    discriminator_optimizer: OptimizerConfig = ADAM
    sampling: tricks.Sampling = tricks.Sampling()

    @model_validator(mode="after")
    def _has_codes(self) -> Config:
        if not self.categories and not self.continuous:
            raise ValueError("there are no codes to learn: give categories or continuous some, or train a gan")
        return self


class InfoGAN(core.Model):
    """Creates an InfoGAN; labels of the data are not looked at.

    Arguments:
        config: the model's configuration.
        space: what one row is.
        parts: none.
    """

    config: Config
    networks: ClassVar[dict[str, tuple[str, Choice]]] = {
        "generator": ("generator", auto("dcgan")),
        "discriminator": ("discriminator", auto("dcgan")),
    }

    def __init__(self, config: Config, space: Space, parts: Mapping[str, core.Part]) -> None:
        super().__init__(config, space, parts)
        self.space = unlabelled = replace(space, classes=0)
        width = config.latent + sum(config.categories) + config.continuous
        self.tricks = tricks.Tricks(config, space)
        self.objective = config.game()
        self.generator = catalog.network("generator", config.generator, unlabelled, auto("dcgan"), latent=width)
        discriminator = catalog.network("discriminator", config.discriminator, unlabelled, auto("dcgan"))
        assert isinstance(discriminator, Discriminator)
        self.discriminator = discriminator
        self.codes = nn.Sequential(
            nn.Linear(discriminator.feature_count, HIDDEN),
            nn.LeakyReLU(0.1),
            nn.Linear(HIDDEN, sum(config.categories) + config.continuous),
        )
        self.tricks.begin([self.discriminator], [self.generator, self.codes])

    def players(self) -> Sequence[Player]:
        config = self.config
        return (
            Player(
                name="discriminator",
                modules=[self.discriminator],
                loss=self.discriminator_loss,
                optimizer=config.discriminator_optimizer,
                turns=config.discriminator_turns,
                after_turn=partial(self.tricks.after_turn, [self.discriminator]),
                compile=not config.penalties,
            ),
            Player(
                name="generator",
                modules=[self.generator, self.codes],
                loss=self.generator_loss,
                optimizer=config.generator_optimizer,
                after_turn=self.tricks.after_generator,
            ),
        )

    def notes(self) -> Sequence[str]:
        found = self.tricks.notes([self.discriminator])
        return (*found, *unseen_labels(self.data_space))

    def averaged(self) -> Sequence[nn.Module]:
        return (self.generator, self.discriminator, self.codes)

    def discriminator_loss(self, turn: Turn) -> Loss:
        """The game alone, as in Equation 6.

        Were D's features trained to read the codes too, as in the authors' program, G could write these into marks that
        mean nothing to the game; so Q has to do with what tells digits.
        """
        with torch.no_grad():
            fakes = self.generator(self._draw(turn.noise)[0], None)
        x, y = self.tricks.seen(turn.batch.x, turn, "real"), self.tricks.seen(fakes, turn, "fake")
        real, fake = self.discriminator(x), self.discriminator(y)
        terms = {
            "adversarial": self.objective.discriminator(*self.tricks.labelled(real, fake, turn)).mean(),
            **self.tricks.terms(self.discriminator, x, y, turn),
            **self.tricks.history("discriminator"),
        }
        figures, sums = self.tricks.told(real, fake, x)
        return Loss(terms, {"real": real.mean(), "fake": fake.mean(), **figures}, sums)

    def generator_loss(self, turn: Turn) -> Loss:
        """The game from the generator's side, and Equation 5."""
        z, codes = self._draw(turn.noise)
        fakes = self.generator(z, None)
        x, y = self.tricks.seen(turn.batch.x, turn, "real"), self.tricks.seen(fakes, turn, "fake")
        features = self.discriminator.features(y)
        fake = self.discriminator.head(features, None)
        real = fake
        if self.objective.paired:
            with torch.no_grad():
                real = self.discriminator(x)
        terms = {
            "adversarial": self.tricks.adversarial * self.objective.generator(real, fake).mean(),
            **self._information(features, codes),
            **self.tricks.matched(self.discriminator.features, x, y),
            **self.tricks.regularised(self.generator),
        }
        return Loss(terms, {"spread": fakes.detach().float().std(0, correction=0).mean()})

    def _draw(self, noise: Noise, how: tricks.Sampling | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The generator's input, and the codes within it: integers ``[B]`` each, then continuous ones ``[B, C]``."""
        config, draws = self.config, noise.fork("codes")
        integers = [draws.integers(k, 1)[:, 0] for k in config.categories]
        uniform = draws.uniform(config.continuous) * 2.0 - 1.0 if config.continuous else None
        z = (tricks.latent(noise.fork("z"), config.latent, how), *integers, *([uniform] if uniform is not None else []))
        return self._joined(z), z[1:]

    def _joined(self, z: tuple[Tensor, ...]) -> Tensor:
        """z and the codes as one vector, integers one-hot."""
        config = self.config
        parts = [z[0]]
        parts += [F.one_hot(c.flatten(), k).to(z[0]) for c, k in zip(z[1:], config.categories, strict=False)]
        return torch.cat([*parts, *([z[-1]] if config.continuous else [])], dim=1)

    def _information(self, features: Tensor, codes: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """-lambda E log Q(c | x), the categorical and the continuous part."""
        config = self.config
        with torch.autocast(features.device.type, enabled=False):
            read = self.codes(features.float())
        logits = read.split([*config.categories, config.continuous], dim=1)
        terms = {}
        if config.categories:
            each = [F.cross_entropy(q, c) for q, c in zip(logits[:-1], codes, strict=False)]
            terms["categories"] = config.information * torch.stack(each).sum()
        if config.continuous:
            nats = 0.5 * (codes[-1] - logits[-1]).square() + 0.5 * math.log(2.0 * math.pi)
            terms["continuous"] = config.continuous_information * nats.sum(1).mean()
        return terms

    @property
    def latents(self) -> tuple[Space, ...]:
        """z, then the categorical codes, then the continuous ones as one vector."""
        config = self.config
        spaces = [Space((config.latent,)), *(Space((1,), levels=k) for k in config.categories)]
        return (*spaces, Space((config.continuous,), between=(-1.0, 1.0))) if config.continuous else tuple(spaces)

    def encode(self, x: Tensor, noise: Noise | None = None) -> tuple[Tensor, ...]:
        """What Q reads: the likeliest codes; z, which nothing reads, is 0."""
        config = self.config
        with torch.no_grad():
            read = self.codes(self.discriminator.features(x).float())
        *logits, means = read.split([*config.categories, config.continuous], dim=1)
        codes = [q.argmax(1, keepdim=True) for q in logits]
        z = x.new_zeros(len(x), config.latent)
        return (z, *codes, means) if config.continuous else (z, *codes)

    def decode(self, z: tuple[Tensor, ...]) -> Tensor:
        return self.generator(self._joined(z), None)

    def score(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self.discriminator(x)

    @torch.no_grad()
    def sample(self, noise: Noise, condition: Condition | None = None, how: tricks.Sampling | None = None) -> Tensor:
        """Returns one row for each row of ``noise``, with codes of its own."""
        x = self.generator(self._draw(noise, how or self.config.sampling)[0], None)
        return x.clamp(-1.0, 1.0) if self.space.is_image else x
