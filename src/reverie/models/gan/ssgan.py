r"""The semi-supervised GAN: a classifier of K classes that also learns from rows without labels, and from fakes.

A K + 1st class, of generated rows, has the logit 0; with :math:`s(x) = \log \sum_k e^{l_k(x)}`

.. math::
    L_D = -E[\log P(c | x, c \le K)] + E[\mathrm{softplus}(-s(x))] + E[\mathrm{softplus}\, s(G(z))], \qquad
    L_G = \lVert E f(x) - E f(G(z)) \rVert^2

with f the features before the last layer.

References:
    | Improved Techniques for Training GANs (Salimans et al., 2016), Section 5
    | https://arxiv.org/abs/1606.03498
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator, model_validator
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

ADAM = OptimizerConfig(name="adam", lr=3e-4, betas=(0.5, 0.999))


class Config(tricks.LogitConfig):
    """The model's configuration, and the tricks of ``nn/tricks.py``.

    Arguments:
        latent: the length of z, uniform on [0, 1].
        labels: how many training rows' labels are used, the first ones of the run's order, at most all; of all others
            only the pixels are seen.
        unlabelled: the weight of the two terms without labels; 0 leaves a plain classifier.
        generator_terms: ``feature-matching``, here of the mean feature, and ``orthogonal``.
        generator: the network of G.
        discriminator: the network of D, whose features give the classes.
        generator_optimizer: how G steps.
        discriminator_optimizer: how D steps.
        sampling: how samples are drawn.
    """

    latent: int = Field(100, ge=1)
    labels: int = Field(1000, ge=1)
    unlabelled: float = Field(1.0, ge=0.0)
    generator_terms: dict[str, float] = Field({"feature-matching": 1.0})
    generator: Choice = Choice(name="auto")
    discriminator: Choice = Choice(name="auto")
    generator_optimizer: OptimizerConfig = ADAM
    discriminator_optimizer: OptimizerConfig = ADAM
    sampling: tricks.UniformSampling = tricks.UniformSampling()

    refused: ClassVar[Mapping[str, str]] = {"objective": "the K + 1st class makes its game a cross-entropy"}

    @field_validator("generator_terms")
    @classmethod
    def _by_features(cls, weights: dict[str, float]) -> dict[str, float]:
        if "adversarial" in weights or not weights.get("feature-matching"):
            raise ValueError("this generator learns by feature-matching, by which its classifier gains from it")
        return weights

    @model_validator(mode="after")
    def _fits(self) -> Config:
        of_fakes = {
            "penalties": any(self.penalties.values()),
            "smoothing": self.smoothing > 0,
            "label_noise": self.label_noise > 0,
            "augment without a probability": self.augment is not None and self.augment.probability is None,
        }
        found = [name for name, on in of_fakes.items() if on]
        if found and not self.unlabelled:
            raise ValueError(f"unlabelled=0 leaves a classifier that sees no generated rows: leave {found[0]} out")
        return self


class Labelled(core.Memory):
    """Creates room for labelled rows.

    Arguments:
        count: how many.
        shape: of a row.
    """

    x: Tensor
    label: Tensor

    def __init__(self, count: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("x", torch.zeros(count, *shape))
        self.register_buffer("label", torch.zeros(count, dtype=torch.int64))


class SSGAN(core.Model):
    """Creates a semi-supervised GAN; its samples are of no given class.

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
        self.space = bare = replace(space, classes=0)
        if space.classes < 2:
            raise RequestError(
                "ssgan needs labels of at least two classes: one subfolder a class, and data.condition=label"
            )
        self.tricks = tricks.Tricks(config, space)
        self.generator = catalog.network("generator", config.generator, bare, auto("dcgan"), latent=config.latent)
        discriminator = catalog.network("discriminator", config.discriminator, bare, auto("dcgan"))
        assert isinstance(discriminator, Discriminator)
        self.discriminator = discriminator
        self.discriminator.head = nn.Identity()  # type: ignore[assignment]  # the classes say what is real
        self.classes = nn.Linear(discriminator.feature_count, space.classes)
        count = min(config.labels, space.count or config.labels)
        self.labelled = Labelled(count, space.shape)
        self.tricks.begin([self.discriminator, self.classes], [self.generator])
        self.latents = (Space((config.latent,), between=(0.0, 1.0)),)

    def on_start(self, data: core.Data) -> None:
        """Keeps the rows whose labels may be used; where some have none, the others again and again."""
        count = len(self.labelled.x)
        batch = data.first(count)
        label = batch.condition.label
        if label is None or not bool((label >= 0).any()):
            raise RequestError("ssgan found no labels: set data.condition=label")
        known = torch.nonzero(label >= 0).flatten()
        places = known[torch.arange(count, device=known.device) % len(known)]
        self.labelled.x.copy_(batch.x[places])
        self.labelled.label.copy_(label[places])

    def notes(self) -> Sequence[str]:
        seen, classes, count = len(self.labelled.label.unique()), self.data_space.classes, len(self.labelled.label)
        if seen == classes or count == self.data_space.count:
            return ()
        return (f"the {count} labels that are used show {seen} of {classes} classes: a larger model.labels shows more",)

    def players(self) -> Sequence[Player]:
        config = self.config
        return (
            Player(
                name="discriminator",
                modules=[self.discriminator, self.classes],
                loss=self.discriminator_loss,
                optimizer=config.discriminator_optimizer,
                turns=config.discriminator_turns,
                after_turn=partial(self.tricks.after_turn, [self.discriminator, self.classes]),
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
        return (self.generator, self.discriminator, self.classes)

    def discriminator_loss(self, turn: Turn) -> Loss:
        """Section 5's three parts."""
        places = turn.noise.fork("labelled").integers(len(self.labelled.x), 1)[:, 0]
        x, label = self.labelled.x[places], self.labelled.label[places]
        logits = self.class_logits(self.tricks.seen(x, turn, "labelled"))
        terms = {"class": F.cross_entropy(logits, label), **self.tricks.history("discriminator")}
        figures = {"named": (logits.argmax(1) == label).float().mean()}
        if not self.config.unlabelled:
            return Loss(terms, figures)
        with torch.no_grad():
            fakes = self._fakes(turn.noise)
        x, y = self.tricks.seen(turn.batch.x, turn, "real"), self.tricks.seen(fakes, turn, "fake")
        real, fake = self.score(x), self.score(y)
        terms |= self.tricks.terms(self.score, x, y, turn)
        one, two = self.tricks.labelled(real, fake, turn)
        terms["real"] = self.config.unlabelled * (F.softplus(-one) + self.config.smoothing * one).mean()
        terms["fake"] = self.config.unlabelled * F.softplus(two).mean()
        figures |= {"real score": real.mean(), "fake score": fake.mean()}
        told, sums = self.tricks.told(real, fake, x)
        return Loss(terms, figures | told, sums)

    def generator_loss(self, turn: Turn) -> Loss:
        """Feature matching: the only loss with which the paper's classifier gained from fakes."""
        fakes = self._fakes(turn.noise)
        x, y = self.tricks.seen(turn.batch.x, turn, "real"), self.tricks.seen(fakes, turn, "fake")
        weight = self.config.generator_terms["feature-matching"]
        terms = {"feature-matching": weight * tricks.apart(self.discriminator.features, x, y).mean()}
        terms |= self.tricks.regularised(self.generator)
        return Loss(terms, {"spread": fakes.detach().float().std(0, correction=0).mean()})

    def class_logits(self, x: Tensor) -> Tensor:
        """Returns logits of the K classes, ``[B, K]``."""
        features = self.discriminator.features(x)
        with torch.autocast(x.device.type, enabled=False):
            return self.classes(features.float())

    def score(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """The logit of being real, s(x)."""
        return self.class_logits(x).logsumexp(1)

    def _fakes(self, noise: Noise) -> Tensor:
        return self.generator(noise.fork("z").uniform(self.config.latent), None)

    def decode(self, z: tuple[Tensor, ...]) -> Tensor:
        return self.generator(z[0], None)

    @torch.no_grad()
    def sample(self, noise: Noise, condition: Condition | None = None, how: Any = None) -> Tensor:
        """Returns one row for each row of ``noise``."""
        x = self._fakes(noise)
        return x.clamp(-1.0, 1.0) if self.space.is_image else x
