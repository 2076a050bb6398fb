r"""What can be switched on in any GAN: penalties, clipping, noise and augmentation of all that D sees.

.. math:: L_D \leftarrow L_D + \sum_k \gamma_k R_k, \qquad D(x) \leftarrow D(A(x) + \sigma \epsilon)

with the penalties R from ``maths/penalties.py`` and augmentations A from ``maths/augmentation.py``, the same for real
and generated rows.

References:
    | Wasserstein GAN (Arjovsky, Chintala and Bottou, 2017), Algorithm 1: the clipped critic
    | https://arxiv.org/abs/1701.07875
    | Towards Principled Methods for Training GANs (Arjovsky and Bottou, 2017), Section 3: noise on what D sees
    | https://arxiv.org/abs/1701.04862
    | Training Generative Adversarial Networks with Limited Data (Karras et al., 2020), Section 3
    | https://arxiv.org/abs/2006.06676
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from reverie.core.errors import RequestError, nearest
from reverie.core.model import ModelConfig
from reverie.core.player import Loss, Turn
from reverie.core.space import Space
from reverie.core.strict import Strict
from reverie.maths import augmentation, penalties


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


class Config(ModelConfig):
    """What is switched on; the base of a GAN's configuration.

    Arguments:
        penalties: names from ``maths/penalties.py`` and their weights, gamma or lambda.
        penalty_every: rounds between two that take the penalties, which then weigh as many times as much (StyleGAN2).
        clip: the greatest size of D's weights, which are cut to it after each of its steps; None leaves them.
        input_noise: the standard deviation of normal noise on all that D sees, falling to 0 over the training.
        augment: augmentation of all that D sees; None for none. Worth it where there are few images.
        discriminator_turns: D's steps in each round.
    """

    penalties: dict[str, float] = Field({})
    penalty_every: int = Field(1, ge=1)
    clip: float | None = Field(None, gt=0.0)
    input_noise: float = Field(0.0, ge=0.0)
    augment: Augment | None = None
    discriminator_turns: int = Field(1, ge=1)

    @field_validator("penalties")
    @classmethod
    def _known_penalties(cls, weights: dict[str, float]) -> dict[str, float]:
        for name, weight in weights.items():
            if weight < 0:
                raise ValueError(f"{name}: {weight:g} would reward steep slopes; weights are 0 or more")
        return {checked(name, penalties.penalty): weight for name, weight in weights.items()}


def checked(name: str, find: Any) -> str:
    """The name, where ``find`` knows it; pydantic wants to hear a ValueError."""
    try:
        find(name)
    except RequestError as error:
        raise ValueError(str(error)) from None
    return name


class Tricks(nn.Module):
    """Creates what carries the tricks out.

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
                raise RequestError("model.augment is of images; leave it out on points")
            self.register_buffer("augmentation", torch.tensor(config.augment.probability or 0.0))

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
                points = penalties.PLACES[penalty.at](x, y, turn.noise).detach().requires_grad_()
                slopes[penalty.at] = penalties.slope(judge(points), points)
            found[name] = weight * penalty.measure(slopes[penalty.at]).mean()
        return found

    def told(self, real: Tensor, fake: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What ``after_turn`` and the journal need of the scores ``[B]`` of two sides: figures, and sums."""
        figures = {"told apart": (real > fake).float().mean()}
        figures |= {"augmentation": self.augmentation} if self.config.augment else {}
        return figures, {"rows": real.new_tensor(len(real))}

    def after_turn(self, discriminator: Sequence[nn.Module], loss: Loss) -> None:
        """Clips D's weights, and lets the augmentation follow how sure D is."""
        config = self.config
        if config.clip is not None:  # so that its slope is bounded, though by what is not known
            for module in discriminator:
                for weight in module.parameters():
                    weight.clamp_(-config.clip, config.clip)
        sure = loss.figures.get("told apart")
        if config.augment and config.augment.probability is None and sure is not None:
            aim, ramp, rows = config.augment.target, config.augment.ramp, int(loss.sums["rows"])
            self.augmentation.copy_(augmentation.adapted(self.augmentation, sure, aim, rows, ramp))
