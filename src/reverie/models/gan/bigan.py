r"""BiGAN: an encoder beside the generator, and a discriminator of pairs that tells (x, E(x)) from (G(z), z).

.. math:: \min_{G, E} \max_D\; E_x \log D(x, E(x)) + E_z \log (1 - D(G(z), z))

At the optimum E inverts G. BigBiGAN adds scores of x alone and of z alone to the score of the pair,

.. math:: s(x, z) = s_x(x) + s_z(z) + s_{xz}(x, z)

each with a loss of its own. VEEGAN lets E learn from generated rows alone: it must find z again, which keeps G from
leaving modes out, and D is the log ratio of the two joint distributions,

.. math:: L_{G, E} = -E_z D(G(z), z) + \lambda\, E_z \lVert z - E(G(z)) \rVert^2 / \dim z

References:
    | Adversarial Feature Learning (Donahue, Krähenbühl and Darrell, 2017), Equation 2
    | https://arxiv.org/abs/1605.09782
    | Large Scale Adversarial Representation Learning (Donahue and Simonyan, 2019), Section 2
    | https://arxiv.org/abs/1907.02544
    | VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational Learning (Srivastava et al., 2017), Algorithm 1
    | https://arxiv.org/abs/1705.07761
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar, Literal

import torch
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
HIDDEN = 256


class Config(tricks.GameConfig):
    """The model's configuration, and the tricks of ``nn/tricks.py``.

    Arguments:
        latent: the length of z, standard normal.
        unary: BigBiGAN's scores of x and of z alone, beside that of the pair.
        reconstruction: VEEGAN's lambda; None for BiGAN's loss of G and E.
        objective: one of ``maths/adversarial.py`` whose sides change places with the sign of the logit.
        generator: the network of G.
        encoder: the network of E.
        discriminator: the network of D's look at x; z joins its features.
        generator_optimizer: how G and E step.
        discriminator_optimizer: how D steps.
        sampling: how samples are drawn.
    """

    latent: int = Field(50, ge=1)
    unary: bool = False
    reconstruction: float | None = Field(None, ge=0.0)
    objective: Literal["non-saturating", "wasserstein", "hinge"] = "non-saturating"
    generator: Choice = Choice(name="auto")
    encoder: Choice = Choice(name="auto")
    discriminator: Choice = Choice(name="auto")
    generator_optimizer: OptimizerConfig = ADAM
    discriminator_optimizer: OptimizerConfig = ADAM
    sampling: tricks.Sampling = tricks.Sampling()

    @model_validator(mode="after")
    def _fits(self) -> Config:
        if self.reconstruction is not None and self.objective != "non-saturating":
            raise ValueError("reconstruction (VEEGAN) takes D for a log ratio: objective=non-saturating makes it one")
        if self.reconstruction is not None and (self.smoothing or self.label_noise):
            raise ValueError("reconstruction (VEEGAN) takes D for a log ratio, which smoothing and label_noise bend")
        if "adversarial" not in self.generator_terms:
            raise ValueError("the encoder learns by the game alone: generator_terms needs adversarial")
        return self


class PairScore(nn.Module):
    """Creates the scores of pairs: of x's features with z, and where wanted of z and of x alone.

    Arguments:
        features: the length of x's features.
        latent: the length of z.
        unary: whether there are scores of one side.
    """

    def __init__(self, features: int, latent: int, unary: bool) -> None:
        super().__init__()
        self.z = nn.Sequential(nn.Linear(latent, HIDDEN), nn.LeakyReLU(0.2), nn.Linear(HIDDEN, HIDDEN))
        self.pair = nn.Sequential(
            nn.Linear(features + HIDDEN, HIDDEN), nn.LeakyReLU(0.2), nn.Linear(HIDDEN, HIDDEN), nn.LeakyReLU(0.2)
        )
        self.joint = nn.Linear(HIDDEN, 1, bias=False)
        self.of_z = nn.Linear(HIDDEN, 1, bias=False) if unary else None
        self.of_x = nn.Linear(features, 1, bias=False) if unary else None

    def forward(self, features: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        """Returns one score ``[B]``, or those of x, of z and of the pair."""
        with torch.autocast(features.device.type, enabled=False):
            features, h = features.float(), self.z(z.float())
            joint = self.joint(self.pair(torch.cat([features, h], dim=1)))[:, 0]
            if self.of_x is None or self.of_z is None:
                return (joint,)
            return self.of_x(features)[:, 0], self.of_z(h)[:, 0], joint


class BiGAN(core.Model):
    """Creates a bidirectional GAN; labels of the data are not looked at.

    Arguments:
        config: the model's configuration.
        space: what one row is.
        parts: none.
    """

    config: Config
    networks: ClassVar[dict[str, tuple[str, Choice]]] = {
        "generator": ("generator", auto("dcgan")),
        "encoder": ("encoder", auto("conv")),
        "discriminator": ("discriminator", auto("dcgan")),
    }

    def __init__(self, config: Config, space: Space, parts: Mapping[str, core.Part]) -> None:
        super().__init__(config, space, parts)
        self.space = bare = replace(space, classes=0)
        self.tricks = tricks.Tricks(config, space)
        self.objective = config.game()
        self.generator = catalog.network("generator", config.generator, bare, auto("dcgan"), latent=config.latent)
        self.encoder = catalog.network("encoder", config.encoder, bare, auto("conv"), outputs=config.latent)
        discriminator = catalog.network("discriminator", config.discriminator, bare, auto("dcgan"))
        assert isinstance(discriminator, Discriminator)
        self.look = discriminator
        self.look.head = nn.Identity()  # type: ignore[assignment]  # pairs are scored instead
        self.scores = PairScore(discriminator.feature_count, config.latent, config.unary)
        self.tricks.begin([self.look, self.scores], [self.generator, self.encoder])
        self.latents = (Space((config.latent,)),)

    def players(self) -> Sequence[Player]:
        config = self.config
        return (
            Player(
                name="discriminator",
                modules=[self.look, self.scores],
                loss=self.discriminator_loss,
                optimizer=config.discriminator_optimizer,
                turns=config.discriminator_turns,
                after_turn=partial(self.tricks.after_turn, [self.look, self.scores]),
                compile=not config.penalties,
            ),
            Player(
                name="generator",
                modules=[self.generator, self.encoder],
                loss=self.generator_loss,
                optimizer=config.generator_optimizer,
                after_turn=self.tricks.after_generator,
            ),
        )

    def notes(self) -> Sequence[str]:
        found = self.tricks.notes([self.look, self.scores])
        return (*found, *unseen_labels(self.data_space))

    def averaged(self) -> Sequence[nn.Module]:
        return (self.generator, self.encoder)

    def discriminator_loss(self, turn: Turn) -> Loss:
        """Equation 2; with unary scores one game for each score."""
        with torch.no_grad():
            z, fakes, codes = self._both(turn)
        x, y = self.tricks.seen(turn.batch.x, turn, "real"), self.tricks.seen(fakes, turn, "fake")
        real, fake = self.score_pair(x, codes), self.score_pair(y, z)
        game, told = self.objective.discriminator, self.tricks.labelled
        terms = {n: game(*told(r, f, turn)).mean() for n, r, f in zip(self._names(), real, fake, strict=True)}
        pairs = _joined(x, codes)
        terms |= self.tricks.terms(self._of_joined, pairs, _joined(y, z), turn)
        terms |= self.tricks.history("discriminator")
        figures, sums = self.tricks.told(real[-1], fake[-1], pairs)
        return Loss(terms, {"real": real[-1].mean(), "fake": fake[-1].mean(), **figures}, sums)

    def generator_loss(self, turn: Turn) -> Loss:
        """The same from the side of G and E: each wants its pair taken for the other's."""
        if self.config.reconstruction is not None:
            return self._found_again(turn, self.config.reconstruction)
        z, fakes, codes = self._both(turn)
        x, y = self.tricks.seen(turn.batch.x, turn, "real"), self.tricks.seen(fakes, turn, "fake")
        real, fake = self.score_pair(x, codes), self.score_pair(y, z)
        game, weight, terms = self.objective.generator, self.tricks.adversarial, dict[str, Tensor]()
        for name, r, f in zip(self._names(), real, fake, strict=True):
            # G's part, and E's, whose pairs are to be taken for generated ones.
            terms[name] = weight * (game(r, f).mean() + game(-f, -r).mean())
        return Loss(terms | self._beside(x, y), {"spread": fakes.detach().float().std(0, correction=0).mean()})

    def _found_again(self, turn: Turn, weight: float) -> Loss:
        """VEEGAN's Algorithm 1: the log ratio of the generated pairs, and the error in z."""
        z = turn.noise.fork("z").normal(self.config.latent)
        fakes = self.generator(z, None)
        x, y = self.tricks.seen(turn.batch.x, turn, "real"), self.tricks.seen(fakes, turn, "fake")
        scores = zip(self._names(), self.score_pair(y, z), strict=True)
        terms = {name: -self.tricks.adversarial * score.mean() for name, score in scores}
        terms["reconstruction"] = weight * (z - self.encoder(fakes, None)).square().mean()
        return Loss(terms | self._beside(x, y), {"spread": fakes.detach().float().std(0, correction=0).mean()})

    def _beside(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """What G minimises beside the game."""
        return self.tricks.matched(self.look.features, x, y) | self.tricks.regularised(self.generator)

    def score_pair(self, x: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        """D's scores of pairs."""
        return self.scores(self.look.features(x), z)

    def _of_joined(self, pairs: Tensor) -> Tensor:
        """The sum of the scores ``[B]`` of pairs as rows: a penalty is on the slope in x and z together."""
        x, z = pairs.split([self.space.size, self.config.latent], dim=1)
        return torch.stack(self.score_pair(x.view(-1, *self.space.shape), z)).sum(0)

    def _both(self, turn: Turn) -> tuple[Tensor, Tensor, Tensor]:
        """z, G(z) and E(x)."""
        z = turn.noise.fork("z").normal(self.config.latent)
        return z, self.generator(z, None), self.encoder(turn.batch.x, None)

    def _names(self) -> tuple[str, ...]:
        return ("score of x", "score of z", "score of the pair") if self.config.unary else ("adversarial",)

    def encode(self, x: Tensor, noise: Noise | None = None) -> tuple[Tensor, ...]:
        return (self.encoder(x, None),)

    def decode(self, z: tuple[Tensor, ...]) -> Tensor:
        return self.generator(z[0], None)

    def score(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """The score of x with its own code."""
        return torch.stack(self.score_pair(x, self.encoder(x, None))).sum(0)

    @torch.no_grad()
    def sample(self, noise: Noise, condition: Condition | None = None, how: tricks.Sampling | None = None) -> Tensor:
        """Returns one row for each row of ``noise``."""
        x = self.generator(tricks.latent(noise.fork("z"), self.config.latent, how or self.config.sampling), None)
        return x.clamp(-1.0, 1.0) if self.space.is_image else x


def _joined(x: Tensor, z: Tensor) -> Tensor:
    return torch.cat([x.flatten(1), z], dim=1)
