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
from typing import Any, ClassVar

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from reverie.core import catalog
from reverie.core import model as core
from reverie.core.batch import Batch, Condition
from reverie.core.choice import Choice, auto
from reverie.core.errors import RequestError, nearest
from reverie.core.noise import Noise
from reverie.core.player import Loss, OptimizerConfig, Player, Turn
from reverie.core.space import Space
from reverie.core.strict import Strict
from reverie.maths import adversarial, augmentation, penalties
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


class Augment(Strict):
    """What is done to all that D sees.

    Arguments:
        policies: names from ``maths/augmentation.py``.
        probability: with which each is applied to a row; None lets it follow how sure D is.
        target: how sure D may be, 2 P[D(x) > D(G(z))] - 1, before the probability rises.
        ramp: images over which the probability may rise from 0 to 1.
    """

    policies: tuple[str, ...] = ("translation", "cutout")
    probability: float | None = Field(None, ge=0.0, le=1.0)
    target: float = Field(0.6, gt=-1.0, lt=1.0)
    ramp: float = Field(100_000, gt=0.0)

    @field_validator("policies")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in augmentation.POLICIES:
                raise ValueError(f"no policy '{name}'{nearest(name, augmentation.POLICIES)}")
        return names


SIDES = ("generator", "discriminator")
TERMS = ("adversarial", "feature-matching", "orthogonal")
"""What a generator may minimise."""


class Config(core.ModelConfig):
    """The model's configuration.

    Arguments:
        latent: the length of z, standard normal.
        objective: a name from ``maths/adversarial.py``.
        penalties: names from ``maths/penalties.py`` and their weights, gamma or lambda.
        penalty_every: rounds between two that take the penalties, which then weigh as many times as much (StyleGAN2).
        smoothing: the share of real rows that D is told are not real (one-sided label smoothing).
        clip: the greatest size of D's weights, which are cut to it after each of its steps; None leaves them.
        input_noise: the standard deviation of normal noise on all that D sees, falling to 0 over the training.
        label_noise: the share of pairs of a real and a generated row that D is told are the other way round.
        augment: augmentation of all that D sees; None for none. Worth it where there are few images.
        history: the weight of each player's squared distance from its past mean (historical averaging).
        generator_terms: what G minimises, and the weights: ``adversarial``, ``feature-matching``, ``orthogonal``.
        orthogonal_start: orthonormal filters at the start.
        discriminator_turns: the discriminator's steps in each round.
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
    penalties: dict[str, float] = Field({})
    penalty_every: int = Field(1, ge=1)
    smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    clip: float | None = Field(None, gt=0.0)
    input_noise: float = Field(0.0, ge=0.0)
    label_noise: float = Field(0.0, ge=0.0, le=0.5)
    augment: Augment | None = None
    history: float = Field(0.0, ge=0.0)
    generator_terms: dict[str, float] = Field({"adversarial": 1.0})
    orthogonal_start: bool = False
    discriminator_turns: int = Field(1, ge=1)
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
        return _checked(name, adversarial.objective)

    @field_validator("penalties")
    @classmethod
    def _known_penalties(cls, weights: dict[str, float]) -> dict[str, float]:
        return {_checked(name, penalties.penalty): weight for name, weight in weights.items()}

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
    def _smoothing_needs_a_cross_entropy(self) -> Config:
        if self.smoothing and not adversarial.objective(self.objective).classifies:
            raise ValueError("smoothing needs the objective saturating or non-saturating")
        return self


def _checked(name: str, find: Any) -> str:
    """The name, where ``find`` knows it; pydantic wants to hear a ValueError."""
    try:
        find(name)
    except RequestError as error:
        raise ValueError(str(error)) from None
    return name


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
    augmentation: Tensor

    def __init__(self, config: Config, space: Space, parts: Mapping[str, core.Part]) -> None:
        super().__init__(config, space, parts)
        game = adversarial.objective(config.objective)
        self.objective = adversarial.smoothed(game, config.smoothing) if config.smoothing else game
        self.penalties = {name: penalties.penalty(name) for name in config.penalties}
        self.generator = catalog.network("generator", config.generator, space, auto("dcgan"), latent=config.latent)
        discriminator = catalog.network("discriminator", config.discriminator, space, auto("dcgan"))
        assert isinstance(discriminator, Discriminator)
        self.discriminator = discriminator
        if config.orthogonal_start:
            orthogonal_(self.generator)
            orthogonal_(self.discriminator)
        if config.augment:
            if not space.is_image:
                raise RequestError("model.augment is of images; leave it out on points")
            self.register_buffer("augmentation", torch.tensor(config.augment.probability or 0.0))
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
                compile=not (self.penalties or config.unroll),  # both differentiate twice
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
        x = self._seen(batch.x, turn, "real")
        y = self._seen(self._shared_fakes(turn).detach(), turn, "fake")
        due = self.penalties if turn.progress.round % self.config.penalty_every == 0 else {}
        sloped = dict.fromkeys(penalty.at for penalty in due.values())
        places = dict.fromkeys(["real", "fake", *sloped])
        points = {str(at): penalties.PLACES[at](x, y, turn.noise) for at in places}
        logits, slopes = judged(self.discriminator, points, sloped, batch.condition)
        real, fake = logits["real"], logits["fake"]
        terms = {"adversarial": self.objective.discriminator(*self._told(real, fake, turn)).mean()}
        for name, penalty in due.items():
            weight = self.config.penalty_every * self.config.penalties[name]
            terms[name] = weight * penalty.measure(slopes[penalty.at]).mean()
        if self.config.history:
            terms["history"] = self.config.history * self._history("discriminator").distance()
        figures = {"real": real.mean(), "fake": fake.mean(), "told apart": (real > fake).float().mean()}
        figures |= {"augmentation": self.augmentation} if self.config.augment else {}
        return Loss(terms, figures, {"rows": real.new_tensor(len(x))})

    def generator_loss(self, turn: Turn) -> Loss:
        """Equation 2 from the generator's side; a paired objective looks at the real rows too."""
        batch = turn.batch
        fakes = batch.scratch.pop("fakes", None) if turn.index == 0 else None
        if fakes is None:
            fakes = self._fakes(batch, turn.noise)
        weights, terms = self.config.generator_terms, {}
        y = self._seen(fakes, turn, "fake")
        matched = "feature-matching" in weights
        x = self._seen(batch.x, turn, "real") if matched or self.objective.paired or self.config.unroll else y
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

    def _seen(self, x: Tensor, turn: Turn, side: str) -> Tensor:
        """Rows as D sees them: augmented, and with noise that makes the two sides overlap while they are apart."""
        if self.config.augment:
            draws = turn.noise.fork(f"augment {side}")
            x = augmentation.augmented(x, draws, self.config.augment.policies, self.augmentation)
        scale = self.config.input_noise * (1.0 - turn.progress.fraction)
        return x + scale * turn.noise.fork(f"blur {side}").normal(*x.shape[1:]) if scale else x

    def _told(self, real: Tensor, fake: Tensor, turn: Turn) -> tuple[Tensor, Tensor]:
        """The two logits, exchanged in a share of the pairs."""
        if not self.config.label_noise:
            return real, fake
        wrong = turn.noise.fork("label noise").uniform() < self.config.label_noise
        return torch.where(wrong, fake, real), torch.where(wrong, real, fake)

    def _after_discriminator(self, loss: Loss) -> None:
        config = self.config
        if config.clip is not None:  # so that its slope is bounded, though by what is not known
            for weight in self.discriminator.parameters():
                weight.clamp_(-config.clip, config.clip)
        if config.augment and config.augment.probability is None:
            sure, rows = loss.figures["told apart"], int(loss.sums["rows"])
            aim, ramp = config.augment.target, config.augment.ramp
            self.augmentation.copy_(augmentation.adapted(self.augmentation, sure, aim, rows, ramp))
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
