r"""Coupled GANs: two domains, one idea. Pairs of images are learned from rows that were never paired.

.. math:: (x_1, x_2) = G(z), \qquad L = \sum_{k = 1, 2} E[\ell(D_k(x), D_k(G_k(z)))]

The two generators share all but the last layer, which decides how an idea is drawn; the two discriminators share all
but the first.

References:
    | Coupled Generative Adversarial Networks (Liu and Tuzel, 2016), Equation 2
    | https://arxiv.org/abs/1606.07536
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from reverie.core import catalog
from reverie.core import model as core
from reverie.core.batch import Condition, Draw
from reverie.core.choice import Choice, auto
from reverie.core.noise import Noise
from reverie.core.player import Loss, OptimizerConfig, Player, Turn
from reverie.core.space import Space
from reverie.nn import tricks
from reverie.nn.discrimination import Discriminator
from reverie.nn.label import unseen_labels

ADAM = OptimizerConfig(name="adam", lr=2e-4, betas=(0.5, 0.999))
ENTRY = 16
"""Channels of the layer that each D has to itself."""


class Sampling(tricks.Sampling):
    """How samples are drawn.

    Arguments:
        domain: which of the two drawings of an idea.
        truncation: as in ``nn/tricks.py``.
    """

    domain: Literal[1, 2] = 1


class Config(tricks.GameConfig):
    """The model's configuration, and the tricks of ``nn/tricks.py``.

    Arguments:
        latent: the length of z, standard normal.
        domains: the names of two of the data's domains, as ``reverie data SOURCE`` lists them; None for all rows, and
            the negatives of other rows.
        generator: the network of both G, with twice the channels at its end.
        discriminator: the network of both D, behind a layer of their own.
        generator_optimizer: how G steps.
        discriminator_optimizer: how D steps.
        sampling: how samples are drawn.
    """

    latent: int = Field(100, ge=1)
    domains: tuple[str, str] | None = None
    generator: Choice = Choice(name="auto")
    discriminator: Choice = Choice(name="auto")
    generator_optimizer: OptimizerConfig = ADAM
    discriminator_optimizer: OptimizerConfig = ADAM
    sampling: Sampling = Sampling()

    @field_validator("domains", mode="before")
    @classmethod
    def _two(cls, given: Any) -> Any:
        if not isinstance(given, list | tuple):
            return given
        names = tuple(map(str, given))  # classes are often numbers, which YAML reads as such
        if len(names) != 2 or names[0] == names[1]:
            raise ValueError("write two different names, as in [photo, sketch]")
        return names


class CoGAN(core.Model):
    """Creates coupled GANs; labels of the data are not looked at.

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
        self.space = bare = replace(space, classes=0)
        self.tricks = tricks.Tricks(config, space)
        self.objective = config.game()
        first, *rest = space.shape
        double = replace(bare, shape=(2 * first, *rest))
        self.generator = catalog.network("generator", config.generator, double, auto("dcgan"), latent=config.latent)
        entered = replace(bare, shape=(ENTRY, *rest))
        discriminator = catalog.network("discriminator", config.discriminator, entered, auto("dcgan"))
        assert isinstance(discriminator, Discriminator)
        self.discriminator = discriminator

        def entry() -> nn.Module:
            layer = nn.Conv2d(first, ENTRY, 3, 1, 1) if space.is_image else nn.Linear(first, ENTRY)
            return nn.Sequential(layer, nn.LeakyReLU(0.2))

        self.entries = nn.ModuleList([entry(), entry()])
        self.tricks.begin([self.discriminator, self.entries], [self.generator])
        self.latents = (Space((config.latent,)),)

    def draws(self) -> Mapping[str, Draw]:
        names = self.config.domains
        return {name: Draw(where=name) for name in names} if names else {"other": Draw()}

    def players(self) -> Sequence[Player]:
        config = self.config
        return (
            Player(
                name="discriminator",
                modules=[self.discriminator, self.entries],
                loss=self.discriminator_loss,
                optimizer=config.discriminator_optimizer,
                turns=config.discriminator_turns,
                after_turn=partial(self.tricks.after_turn, [self.discriminator, self.entries]),
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
        found = self.tricks.notes([self.discriminator, self.entries])
        missing = (
            "model.domains names no two domains of the data, so the second one is the negatives of other rows; "
            "`reverie data SOURCE` lists those there are, as in model.domains=[photos, drawings]"
        )
        return (*found, *([] if self.config.domains else [missing]), *unseen_labels(self.data_space))

    def averaged(self) -> Sequence[nn.Module]:
        return (self.generator,)

    def discriminator_loss(self, turn: Turn) -> Loss:
        """Equation 2: one game in each domain."""
        with torch.no_grad():
            fakes = self.pair(turn.noise.fork("z").normal(self.config.latent))
        terms, told, seen = {}, [], []
        for k, (x, y) in enumerate(zip(self._real(turn), fakes, strict=True)):
            own = self._own(turn, k)
            x, y = self.tricks.seen(x, own, "real"), self.tricks.seen(y, own, "fake")
            real, fake = self.judge(x, k), self.judge(y, k)
            terms[f"domain {k + 1}"] = self.objective.discriminator(*self.tricks.labelled(real, fake, own)).mean()
            sloped = self.tricks.terms(partial(self.judge, domain=k), x, y, own)
            terms |= {f"{name} {k + 1}": term for name, term in sloped.items()}
            told.append((real, fake))
            seen.append(x)
        terms |= self.tricks.history("discriminator")
        real, fake = (torch.cat(side) for side in zip(*told, strict=True))
        return Loss(terms, *self.tricks.told(real, fake, *seen))

    def generator_loss(self, turn: Turn) -> Loss:
        """The same from the other side, both drawings from one z."""
        fakes = self.pair(turn.noise.fork("z").normal(self.config.latent))
        terms = {}
        for k, (x, y) in enumerate(zip(self._real(turn), fakes, strict=True)):
            own = self._own(turn, k)
            x, y = self.tricks.seen(x, own, "real"), self.tricks.seen(y, own, "fake")
            fake = real = self.judge(y, k)
            if self.objective.paired:
                with torch.no_grad():
                    real = self.judge(x, k)
            terms[f"domain {k + 1}"] = self.tricks.adversarial * self.objective.generator(real, fake).mean()
            matched = self.tricks.matched(partial(self._features, domain=k), x, y)
            terms |= {f"{name} {k + 1}": term for name, term in matched.items()}
        terms |= self.tricks.regularised(self.generator)
        return Loss(terms, {"spread": fakes[0].detach().float().std(0, correction=0).mean()})

    def _own(self, turn: Turn, domain: int) -> Turn:
        """The turn with noise of one domain: two games draw nothing together but z."""
        return turn._replace(noise=turn.noise.fork(f"domain {domain + 1}"))

    def pair(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The two drawings of z, ``[B, *space.shape]`` each."""
        first, second = self.generator(z, None).chunk(2, dim=1)
        return first, second

    def judge(self, x: Tensor, domain: int) -> Tensor:
        """The logits of one domain's discriminator, 0 or 1."""
        logits: Tensor = self.discriminator(self.entries[domain](x), None)
        return logits

    def _features(self, x: Tensor, domain: int) -> Tensor:
        return self.discriminator.features(self.entries[domain](x))

    def _real(self, turn: Turn) -> tuple[Tensor, Tensor]:
        """Real rows of both domains, which nobody paired."""
        parts = turn.batch.parts
        if self.config.domains:
            return parts[self.config.domains[0]].x, parts[self.config.domains[1]].x
        return turn.batch.x, -parts["other"].x

    def decode(self, z: tuple[Tensor, ...]) -> Tensor:
        return self.pair(z[0])[0]

    def score(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self.judge(x, 0)

    @torch.no_grad()
    def sample(self, noise: Noise, condition: Condition | None = None, how: Sampling | None = None) -> Tensor:
        """Returns one row for each row of ``noise``, of the domain that ``how`` names."""
        how = how or self.config.sampling
        x = self.pair(tricks.latent(noise.fork("z"), self.config.latent, how))[how.domain - 1]
        return x.clamp(-1.0, 1.0) if self.space.is_image else x
