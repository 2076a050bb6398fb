r"""What can be switched on in any GAN: penalties, clipping, noise, augmentation, and the tricks of Salimans et al.

.. math::
    L_D &\leftarrow L_D + \sum_k \gamma_k R_k + h H, \qquad D(x) \leftarrow D(A(x) + \sigma \epsilon) \\
    L_G &\leftarrow w_A L_G + w_F \lVert E f(x) - E f(G(z)) \rVert^2 + w_O O + h H

with the penalties R from ``maths/penalties.py``, augmentations A from ``maths/augmentation.py``, the same for real and
generated rows, f the features of D, O the overlap of G's filters and H a player's squared distance from its past mean.

References:
    | Wasserstein GAN (Arjovsky, Chintala and Bottou, 2017), Algorithm 1: the clipped critic
    | https://arxiv.org/abs/1701.07875
    | Towards Principled Methods for Training GANs (Arjovsky and Bottou, 2017), Section 3: noise on what D sees
    | https://arxiv.org/abs/1701.04862
    | Improved Techniques for Training GANs (Salimans et al., 2016), Section 3
    | https://arxiv.org/abs/1606.03498
    | Large Scale GAN Training for High Fidelity Natural Image Synthesis (Brock, Donahue and Simonyan, 2019), Section 3
    | https://arxiv.org/abs/1809.11096
    | Training Generative Adversarial Networks with Limited Data (Karras et al., 2020), Section 3
    | https://arxiv.org/abs/2006.06676
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from reverie.core import model as core
from reverie.core.device import finest
from reverie.core.errors import RequestError, nearest
from reverie.core.noise import Noise
from reverie.core.player import Loss, Turn
from reverie.core.space import Space
from reverie.core.strict import Strict
from reverie.maths import adversarial, augmentation, penalties
from reverie.nn.deviation import Deviation, moments
from reverie.nn.history import History
from reverie.nn.orthogonal import orthogonal_, overlap
from reverie.nn.spectral import is_spectral

TERMS = ("adversarial", "feature-matching", "orthogonal")
"""What a generator may minimise: what its structure is about, and two that any may add."""

ENERGIES: Mapping[str, str] = {
    "objective": "its discriminator is an energy, which has a loss of its own",
    "smoothing": "its discriminator is an energy: it calls no row real or generated, so there is no label to smooth",
    "label_noise": "its discriminator is an energy: it calls no row real or generated, so there is no label to change",
}
"""Of a discriminator without logits: what has no meaning for it, and why."""


class Sampling(core.Sampling):
    """How samples are drawn of a standard normal z.

    Arguments:
        truncation: z is normal within [-truncation, truncation]: the smaller, the more typical and the less varied
            samples are; None for all of the normal distribution.
    """

    truncation: float | None = Field(None, gt=0.0)


class UniformSampling(core.Sampling):
    """How samples are drawn of a uniform z: in one way."""

    refused: ClassVar[Mapping[str, str]] = {"truncation": "it cuts the tails of a normal z, and its z is uniform"}


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


class Config(core.ModelConfig):
    """What is switched on; the base of a GAN's configuration.

    Arguments:
        penalties: names from ``maths/penalties.py`` and their weights, gamma or lambda.
        penalty_every: rounds between two that take the penalties, which then weigh as many times as much (StyleGAN2).
        clip: the greatest size of D's weights, which are cut to it after each of its steps; None leaves them.
        input_noise: the standard deviation of normal noise on all that D sees, falling to 0 over the training.
        augment: augmentation of all that D sees; None for none. Worth it where there are few images.
        discriminator_turns: D's steps in each round.
        history: the weight of each player's squared distance from its past mean (historical averaging).
        generator_terms: what G minimises, and the weights: ``adversarial``, what its structure gives it to do,
            ``feature-matching``, ``orthogonal``.
        orthogonal_start: orthonormal filters of both players at the start.
    """

    penalties: dict[str, float] = Field({})
    penalty_every: int = Field(1, ge=1)
    clip: float | None = Field(None, gt=0.0)
    input_noise: float = Field(0.0, ge=0.0)
    augment: Augment | None = None
    discriminator_turns: int = Field(1, ge=1)
    history: float = Field(0.0, ge=0.0)
    generator_terms: dict[str, float] = Field({"adversarial": 1.0})
    orthogonal_start: bool = False

    @field_validator("penalties", "generator_terms", mode="before")
    @classmethod
    def _has_weights(cls, given: Any) -> Any:
        if isinstance(given, Mapping):
            return given
        names = ", ".join(map(str, given)) if isinstance(given, list | tuple) else given
        raise ValueError(f"each name needs a weight, as in {{{names or 'r1'}: 1.0}}")

    @field_validator("augment", mode="before")
    @classmethod
    def _has_options(cls, given: Any) -> Any:
        if given is None or isinstance(given, Mapping | Augment):
            return given
        raise ValueError("it takes options, as in {policies: [translation]}; {} is for the usual ones, null for none")

    @field_validator("penalties")
    @classmethod
    def _known_penalties(cls, weights: dict[str, float]) -> dict[str, float]:
        for name, weight in weights.items():
            if weight < 0:
                raise ValueError(f"{name}: {weight:g} would reward steep slopes; weights are 0 or more")
        return {checked(name, penalties.penalty): weight for name, weight in weights.items()}

    @field_validator("generator_terms")
    @classmethod
    def _known_terms(cls, weights: dict[str, float]) -> dict[str, float]:
        for name, weight in weights.items():
            if name not in TERMS:
                raise ValueError(f"no term '{name}' of a generator{nearest(name, TERMS)}")
            if weight < 0:
                raise ValueError(f"{name}: {weight:g} would turn the term around; weights are 0 or more")
        if not any(weights.get(name) for name in ("adversarial", "feature-matching")):
            raise ValueError(
                "a generator needs the term adversarial or feature-matching to learn from, at a weight above 0"
            )
        return weights


class LogitConfig(Config):
    """Of a discriminator that calls rows real or generated.

    Arguments:
        smoothing: the share of real rows that D is told are not real (one-sided label smoothing).
        label_noise: the share of pairs of a real and a generated row that D is told are the other way round.
    """

    smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    label_noise: float = Field(0.0, ge=0.0, le=0.5)


class GameConfig(LogitConfig):
    """Of a game whose objective can be chosen.

    Arguments:
        objective: a name from ``maths/adversarial.py``.
    """

    objective: str = "non-saturating"

    @field_validator("objective")
    @classmethod
    def _known_objective(cls, name: str) -> str:
        return checked(name, adversarial.objective)

    @model_validator(mode="after")
    def _can_be_smoothed(self) -> GameConfig:
        if self.smoothing and not adversarial.objective(self.objective).classifies:
            raise ValueError("smoothing needs the objective saturating or non-saturating")
        return self

    def game(self) -> adversarial.Objective:
        """The objective, with its labels smoothed where that is asked for."""
        game = adversarial.objective(self.objective)
        return adversarial.smoothed(game, self.smoothing) if self.smoothing else game


def checked(name: str, find: Any) -> str:
    """The name, where ``find`` knows it; pydantic wants to hear a ValueError."""
    try:
        find(name)
    except RequestError as error:
        raise ValueError(str(error)) from None
    return name


def latent(noise: Noise, length: int, how: Sampling | None = None) -> Tensor:
    """Standard normals ``[B, length]``, truncated where ``how`` says so: not clipped, but drawn of what is left."""
    if how is None or how.truncation is None:
        return noise.normal(length)
    share = noise.uniform(length)
    share = share.to(finest(share.device))
    tail = torch.special.ndtr(share.new_tensor(-how.truncation))
    z = torch.special.ndtri(tail + share * (1.0 - 2.0 * tail))
    return z.float().clamp(-how.truncation, how.truncation)


class Tricks(nn.Module):
    """Creates what carries the tricks out. ``begin`` comes after the players' networks.

    Arguments:
        config: which are on.
        space: what one row is.

    Raises:
        RequestError: points were to be augmented.
    """

    augmentation: Tensor

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        self.config = config
        self.penalties = {name: penalties.penalty(name) for name in config.penalties}
        if config.augment:
            if not space.is_image:
                raise RequestError("model.augment is of images, and these rows are none: leave it out")
            self.register_buffer("augmentation", torch.tensor(config.augment.probability or 0.0))
        self.histories = nn.ModuleDict()
        around = any(penalty.at == "around" for penalty in self.penalties.values())
        self.deviation = Deviation() if around else None

    def begin(self, discriminator: Sequence[nn.Module], generator: Sequence[nn.Module]) -> None:
        """Prepares the players' networks, and begins to remember where they have been."""
        for side, networks in (("discriminator", discriminator), ("generator", generator)):
            if self.config.orthogonal_start:
                for network in networks:
                    orthogonal_(network)
            if self.config.history:
                self.histories[side] = History(nn.ModuleList(networks))

    def notes(self, critic: Sequence[nn.Module]) -> tuple[str, ...]:
        """What is said before a training, of what scores rows: a Wasserstein critic may be free to grow.

        Arguments:
            critic: the network that can be chosen, and what is before or behind it, which has no spectral norm.
        """
        config = self.config
        if not isinstance(config, GameConfig) or config.objective != "wasserstein":
            return ()
        if any(config.penalties.values()) or config.clip is not None or all(map(is_spectral, critic)):
            return ()
        bounds = "model.penalties={gradient-penalty: 10}, model.clip=0.01, or spectral: true of its network"
        if len(critic) > 1:
            bounds = "model.penalties={gradient-penalty: 10} or model.clip=0.01"
        return (
            "objective=wasserstein without a bound on the critic's slope: its scores will grow without end; "
            f"set {bounds}",
        )

    def seen(self, x: Tensor, turn: Turn, side: str) -> Tensor:
        """Rows as D sees them: augmented, and with noise that makes the two sides overlap while they are apart."""
        if self.config.augment:
            draws = turn.noise.fork(f"augment {side}")
            x = augmentation.augmented(x, draws, self.config.augment.policies, self.augmentation)
        scale = self.config.input_noise * (1.0 - turn.progress.fraction)
        return x + scale * turn.noise.fork(f"blur {side}").normal(*x.shape[1:]) if scale else x

    def due(self, turn: Turn) -> dict[str, tuple[penalties.Penalty, float]]:
        """The penalties of this round, and their weights."""
        if turn.progress.round % self.config.penalty_every:
            return {}
        weights = self.config.penalties
        return {name: (p, self.config.penalty_every * weights[name]) for name, p in self.penalties.items()}

    def place(self, at: str, x: Tensor, y: Tensor, turn: Turn) -> Tensor:
        """Points of ``maths/penalties.py``, from real rows x and generated ones y as D sees them."""
        deviation = x.new_zeros(()) if self.deviation is None else self.deviation.value
        return penalties.PLACES[at](x, y, turn.noise, deviation)

    def terms(self, judge: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, turn: Turn) -> dict[str, Tensor]:
        """The penalties of a discriminator.

        Arguments:
            judge: rows to logits ``[B]``.
            x: real rows, as it sees them.
            y: generated rows, likewise.
            turn: its turn.
        """
        found, slopes = {}, dict[str, Tensor]()
        for name, (penalty, weight) in self.due(turn).items():
            if penalty.at not in slopes:
                points = self.place(penalty.at, x, y, turn).detach().requires_grad_()
                slopes[penalty.at] = penalties.slope(judge(points), points)
            found[name] = weight * penalty.measure(slopes[penalty.at]).mean()
        return found

    def labelled(self, real: Tensor, fake: Tensor, turn: Turn) -> tuple[Tensor, Tensor]:
        """The logits ``[B]`` of two sides as D's loss takes them: exchanged in a share of the pairs."""
        share = self.config.label_noise if isinstance(self.config, LogitConfig) else 0.0
        if not share:
            return real, fake
        wrong = turn.noise.fork("label noise").uniform() < share
        return torch.where(wrong, fake, real), torch.where(wrong, real, fake)

    @property
    def adversarial(self) -> float:
        """The weight of what the structure gives G to do."""
        return self.config.generator_terms.get("adversarial", 0.0)

    def matched(self, features: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Feature matching, where it is on: the squared distance of the mean features of two sides.

        Arguments:
            features: rows to D's features ``[B, F]``.
            x: real rows, as D sees them.
            y: generated rows, likewise; they get the gradient.
        """
        weight = self.config.generator_terms.get("feature-matching")
        return {} if weight is None else {"feature-matching": weight * apart(features, x, y).sum()}

    def regularised(self, generator: nn.Module) -> dict[str, Tensor]:
        """What holds G's weights: the overlap of its filters, and its history."""
        weight = self.config.generator_terms.get("orthogonal")
        terms = {} if weight is None else {"orthogonal": weight * overlap(generator)}
        return terms | self.history("generator")

    def history(self, side: str) -> dict[str, Tensor]:
        """A player's squared distance from where it has been."""
        return {"history": self.config.history * self._history(side).distance()} if self.config.history else {}

    def remember(self, side: str) -> None:
        """Takes a player's weights into the mean of its past."""
        if self.config.history:
            self._history(side).remember()

    def after_generator(self, loss: Loss) -> None:
        """Remembers G's weights."""
        self.remember("generator")

    def _history(self, side: str) -> History:
        history = self.histories[side]
        assert isinstance(history, History)
        return history

    def told(self, real: Tensor, fake: Tensor, *x: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What ``after_turn`` and the journal need: figures, and sums.

        Arguments:
            real: the scores ``[B]`` of real rows.
            fake: those of generated ones.
            x: the real rows as the penalties see them, one group or more.
        """
        figures = {"told apart": (real > fake).float().mean()}
        figures |= {"augmentation": self.augmentation} if self.config.augment else {}
        sums = {"rows": real.new_tensor(len(real))}
        return figures, sums if self.deviation is None else {**sums, "moments": moments(x)}

    def after_turn(self, discriminator: Sequence[nn.Module], loss: Loss) -> None:
        """Clips D's weights and remembers them, and lets the augmentation follow how sure D is."""
        config = self.config
        if config.clip is not None:  # so that its slope is bounded, though by what is not known
            for module in discriminator:
                for weight in module.parameters():
                    weight.clamp_(-config.clip, config.clip)
        self.remember("discriminator")
        if self.deviation is not None and "moments" in loss.sums:
            self.deviation.remember(loss.sums["moments"])
        sure = loss.figures.get("told apart")
        if config.augment and config.augment.probability is None and sure is not None:
            aim, ramp, rows = config.augment.target, config.augment.ramp, int(loss.sums["rows"])
            self.augmentation.copy_(augmentation.adapted(self.augmentation, sure, aim, rows, ramp))


def apart(features: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """The squared differences ``[F]`` of the mean features of rows x and y; gradients go to y alone."""
    with torch.no_grad():
        wanted = features(x).float().mean(0)
    return (features(y).float().mean(0) - wanted).square()
