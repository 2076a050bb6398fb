r"""The generative adversarial network: an objective, penalties, a generator G and a discriminator D, freely combined.

.. math::
    L_D = E[\ell_D(D(x), D(G(z)))] + \sum_k \gamma_k R_k, \qquad L_G = E[\ell_G(D(x), D(G(z)))] + \sum_k w_k T_k

with :math:`\ell_D, \ell_G` from ``maths/adversarial.py``, the penalties :math:`R_k` from ``maths/penalties.py``, and
terms of the generator :math:`T_k` such as feature matching, the squared distance of the mean features of D.

References:
    | Generative Adversarial Networks (Goodfellow et al., 2014), Algorithm 1
    | https://arxiv.org/abs/1406.2661
    | Wasserstein GAN (Arjovsky, Chintala and Bottou, 2017), Algorithm 1: the clipped critic
    | https://arxiv.org/abs/1701.07875
    | Towards Principled Methods for Training GANs (Arjovsky and Bottou, 2017), Section 3: noise on what D sees
    | https://arxiv.org/abs/1701.04862
    | Improved Techniques for Training GANs (Salimans et al., 2016), Section 3
    | https://arxiv.org/abs/1606.03498
    | Unrolled Generative Adversarial Networks (Metz et al., 2017), Equation 8
    | https://arxiv.org/abs/1611.02163
    | The GAN is dead; long live the GAN! A Modern GAN Baseline (Huang et al., 2024), Equations 2 and 3
    | https://arxiv.org/abs/2501.05441
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from reverie.core import catalog
from reverie.core import model as core
from reverie.core.batch import Batch, Condition
from reverie.core.choice import Choice, auto
from reverie.core.errors import nearest
from reverie.core.noise import Noise
from reverie.core.player import Loss, OptimizerConfig, Player, Turn
from reverie.core.space import Space
from reverie.maths import adversarial, penalties
from reverie.nn import tricks
from reverie.nn.discrimination import Discriminator, judged
from reverie.nn.history import History
from reverie.nn.orthogonal import orthogonal_, overlap
from reverie.nn.unrolled import Judge, ahead

ADAM = OptimizerConfig(name="adam", lr=2e-4, betas=(0.5, 0.999))
"""Section 4 of the DCGAN paper."""


class Sampling(core.Sampling):
    """How samples are drawn.

    Arguments:
        truncation: z is normal within [-truncation, truncation]: the smaller, the more typical and the less varied
            samples are; None for all of the normal distribution.
    """

    truncation: float | None = Field(None, gt=0.0)


SIDES = ("generator", "discriminator")
TERMS = ("adversarial", "feature-matching", "orthogonal")
"""What a generator may minimise."""


class Config(tricks.Config):
    """The model's configuration, and the tricks of ``nn/tricks.py``.

    Arguments:
        latent: the length of z, standard normal.
        objective: a name from ``maths/adversarial.py``.
        smoothing: the share of real rows that D is told are not real (one-sided label smoothing).
        label_noise: the share of pairs of a real and a generated row that D is told are the other way round.
        history: the weight of each player's squared distance from its past mean (historical averaging).
        generator_terms: what G minimises, and the weights: ``adversarial``, ``feature-matching``, ``orthogonal``.
        orthogonal_start: orthonormal filters at the start.
        unroll: steps that G looks ahead: it answers to D as D would be after them (unrolled GAN).
        unroll_rate: the rate of those steps, by plain gradient descent.
        generator: the network of G.
        discriminator: the network of D.
        generator_optimizer: how G steps.
        discriminator_optimizer: how D steps.
        sampling: how samples are drawn.
    """

    latent: int = Field(100, ge=1)
    objective: str = "non-saturating"
    smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    label_noise: float = Field(0.0, ge=0.0, le=0.5)
    history: float = Field(0.0, ge=0.0)
    generator_terms: dict[str, float] = Field({"adversarial": 1.0})
    orthogonal_start: bool = False
    unroll: int = Field(0, ge=0)
    unroll_rate: float = Field(0.1, gt=0.0)
    generator: Choice = Choice(name="auto")
    discriminator: Choice = Choice(name="auto")
    generator_optimizer: OptimizerConfig = ADAM
    discriminator_optimizer: OptimizerConfig = ADAM
    sampling: Sampling = Sampling()

    @field_validator("objective")
    @classmethod
    def _known_objective(cls, name: str) -> str:
        return tricks.checked(name, adversarial.objective)

    @field_validator("generator_terms")
    @classmethod
    def _known_terms(cls, weights: dict[str, float]) -> dict[str, float]:
        for name in weights:
            if name not in TERMS:
                raise ValueError(f"no term '{name}' of a generator{nearest(name, TERMS)}")
        if not {"adversarial", "feature-matching"} & weights.keys():
            raise ValueError("a generator needs the term adversarial or feature-matching to learn from")
        return weights

    @model_validator(mode="after")
    def _fits(self) -> Config:
        if self.unroll and (self.penalties or self.clip is not None):
            raise ValueError("unroll looks ahead by the game alone, so leave penalties and clip out")
        if self.smoothing and not adversarial.objective(self.objective).classifies:
            raise ValueError("smoothing needs the objective saturating or non-saturating")
        return self


class GAN(core.Model):
    """Creates a generative adversarial network; it is class-conditional where ``space.classes`` is above 0.

    Arguments:
        config: the model's configuration.
        space: what one row is.
        parts: none.
    """

    networks: ClassVar[dict[str, tuple[str, Choice]]] = {
        "generator": ("generator", auto("dcgan")),
        "discriminator": ("discriminator", auto("dcgan")),
    }

    config: Config

    def __init__(self, config: Config, space: Space, parts: Mapping[str, core.Part]) -> None:
        super().__init__(config, space, parts)
        game = adversarial.objective(config.objective)
        self.objective = adversarial.smoothed(game, config.smoothing) if config.smoothing else game
        self.tricks = tricks.Tricks(config, space)
        self.generator = catalog.network("generator", config.generator, space, auto("dcgan"), latent=config.latent)
        discriminator = catalog.network("discriminator", config.discriminator, space, auto("dcgan"))
        assert isinstance(discriminator, Discriminator)
        self.discriminator = discriminator
        if config.orthogonal_start:
            orthogonal_(self.generator)
            orthogonal_(self.discriminator)
        if config.history:
            self.histories = nn.ModuleDict({side: History(getattr(self, side)) for side in SIDES})

    def players(self) -> Sequence[Player]:
        config = self.config
        return (
            Player(
                name="discriminator",
                modules=[self.discriminator],
                loss=self.discriminator_loss,
                optimizer=config.discriminator_optimizer,
                turns=config.discriminator_turns,
                after_turn=self._after_discriminator,
                compile=not (config.penalties or config.unroll),  # both differentiate twice
            ),
            Player(
                name="generator",
                modules=[self.generator],
                loss=self.generator_loss,
                optimizer=config.generator_optimizer,
                after_turn=self._after_generator,
                compile=not config.unroll,
            ),
        )

    def averaged(self) -> Sequence[nn.Module]:
        return (self.generator,)

    def discriminator_loss(self, turn: Turn) -> Loss:
        """Equation 3: the game from the discriminator's side, and the penalties on its slope."""
        batch = turn.batch
        x = self.tricks.seen(batch.x, turn, "real")
        y = self.tricks.seen(self._shared_fakes(turn).detach(), turn, "fake")
        due = self.tricks.due(turn)
        sloped = dict.fromkeys(penalty.at for penalty, _ in due.values())
        places = dict.fromkeys(["real", "fake", *sloped])
        points = {str(at): penalties.PLACES[at](x, y, turn.noise) for at in places}
        logits, slopes = judged(self.discriminator, points, sloped, batch.condition)
        real, fake = logits["real"], logits["fake"]
        terms = {"adversarial": self.objective.discriminator(*self._told(real, fake, turn)).mean()}
        for name, (penalty, weight) in due.items():
            terms[name] = weight * penalty.measure(slopes[penalty.at]).mean()
        if self.config.history:
            terms["history"] = self.config.history * self._history("discriminator").distance()
        figures, sums = self.tricks.told(real, fake)
        return Loss(terms, {"real": real.mean(), "fake": fake.mean(), **figures}, sums)

    def generator_loss(self, turn: Turn) -> Loss:
        """Equation 2 from the generator's side; a paired objective looks at the real rows too."""
        batch = turn.batch
        fakes = batch.scratch.pop("fakes", None) if turn.index == 0 else None
        if fakes is None:
            fakes = self._fakes(batch, turn.noise)
        weights, terms = self.config.generator_terms, {}
        y = self.tricks.seen(fakes, turn, "fake")
        matched = "feature-matching" in weights
        x = self.tricks.seen(batch.x, turn, "real") if matched or self.objective.paired or self.config.unroll else y
        if "adversarial" in weights:
            judge = self._ahead(x, y, batch.condition) if self.config.unroll else self.discriminator
            fake = judge(y, batch.condition)
            real = fake
            if self.objective.paired:
                with torch.set_grad_enabled(self.config.unroll > 0):  # real rows' logits move with D's steps alone
                    real = judge(x, batch.condition)
            terms["adversarial"] = weights["adversarial"] * self.objective.generator(real, fake).mean()
        if matched:
            with torch.no_grad():
                wanted = self._features(x, batch.condition).float().mean(0)
            apart = (self._features(y, batch.condition).float().mean(0) - wanted).square().sum()
            terms["feature-matching"] = weights["feature-matching"] * apart
        if "orthogonal" in weights:
            terms["orthogonal"] = weights["orthogonal"] * overlap(self.generator)
        if self.config.history:
            terms["history"] = self.config.history * self._history("generator").distance()
        return Loss(terms, {"spread": fakes.detach().float().std(0).mean()})

    def _ahead(self, x: Tensor, y: Tensor, condition: Condition) -> Judge:
        """D as it would be after some steps on these rows."""

        def loss(judge: Judge) -> Tensor:
            return self.objective.discriminator(judge(x, condition), judge(y, condition)).mean()

        return ahead(self.discriminator, loss, self.config.unroll, self.config.unroll_rate)

    def _features(self, x: Tensor, condition: Condition) -> Tensor:
        return self.discriminator.features(self.discriminator.enter(x, condition))

    def _told(self, real: Tensor, fake: Tensor, turn: Turn) -> tuple[Tensor, Tensor]:
        """The two logits, exchanged in a share of the pairs."""
        if not self.config.label_noise:
            return real, fake
        wrong = turn.noise.fork("label noise").uniform() < self.config.label_noise
        return torch.where(wrong, fake, real), torch.where(wrong, real, fake)

    def _after_discriminator(self, loss: Loss) -> None:
        self.tricks.after_turn([self.discriminator], loss)
        self._remember("discriminator")

    def _after_generator(self, loss: Loss) -> None:
        self._remember("generator")

    def _remember(self, side: str) -> None:
        if self.config.history:
            self._history(side).remember()

    def _history(self, side: str) -> History:
        history = self.histories[side]
        assert isinstance(history, History)
        return history

    def _fakes(self, batch: Batch, noise: Noise) -> Tensor:
        z = noise.fork("z").normal(self.config.latent)
        return self.generator(z, batch.condition)

    def _shared_fakes(self, turn: Turn) -> Tensor:
        """Generated rows, kept with their graph for the generator's turn, which sees the same batch.

        Sound in the round's first turn: the generator has not stepped since, so the graph is the one its own
        forward pass would build, and one pass in three is saved.
        """
        if turn.index > 0:
            with torch.no_grad():
                return self._fakes(turn.batch, turn.noise)
        with _grads(self.generator):
            fakes = self._fakes(turn.batch, turn.noise)
        turn.batch.scratch["fakes"] = fakes
        return fakes

    @property
    def latents(self) -> tuple[Space, ...]:
        """z, and the label where there are labels."""
        z = Space((self.config.latent,))
        return (z, Space((1,), levels=self.space.classes)) if self.space.classes else (z,)

    def decode(self, z: tuple[Tensor, ...]) -> Tensor:
        label = z[1].flatten() if self.space.classes else None
        return self.generator(z[0], Condition(label=label))

    def score(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self.discriminator(x, condition)

    @torch.no_grad()
    def sample(self, noise: Noise, condition: Condition | None = None, how: Sampling | None = None) -> Tensor:
        """Returns one row for each row of ``noise``; labels that are not given are drawn uniformly."""
        z = self._latent(noise.fork("z"), how or self.config.sampling)
        if not self.space.classes:
            return self._finished(self.generator(z, None))
        label = noise.fork("label").integers(self.space.classes, 1)[:, 0]
        if condition is not None and condition.label is not None:
            label = torch.where(condition.label < 0, label, condition.label)
        return self._finished(self.generator(z, Condition(label=label)))

    def _latent(self, noise: Noise, how: Sampling) -> Tensor:
        if how.truncation is None:
            return noise.normal(self.config.latent)
        tail = torch.special.ndtr(torch.tensor(-how.truncation, dtype=torch.float64))
        share = noise.uniform(self.config.latent).double()
        z = torch.special.ndtri(tail + share * (1.0 - 2.0 * tail))
        return z.float().clamp(-how.truncation, how.truncation)

    def _finished(self, x: Tensor) -> Tensor:
        """Images clamped to [-1, 1], which a linear output may leave by a little."""
        return x.clamp(-1.0, 1.0) if self.space.is_image else x


@contextmanager
def _grads(network: nn.Module) -> Iterator[None]:
    """Gradients for a network's parameters, also out of its player's turn."""
    before = [p.requires_grad for p in network.parameters()]
    network.requires_grad_()
    try:
        yield
    finally:
        for parameter, needed in zip(network.parameters(), before, strict=True):
            parameter.requires_grad_(needed)
