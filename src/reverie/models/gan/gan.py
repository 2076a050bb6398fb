r"""The generative adversarial network: an objective, penalties, a generator G and a discriminator D, freely combined.

.. math::
    L_D = E[\ell_D(D(x), D(G(z)))] + \sum_k \gamma_k R_k, \qquad L_G = E[\ell_G(D(x), D(G(z)))]

with :math:`\ell_D, \ell_G` from ``maths/adversarial.py`` and the penalties :math:`R_k` from ``maths/penalties.py``.

References:
    | Generative Adversarial Networks (Goodfellow et al., 2014), Algorithm 1
    | https://arxiv.org/abs/1406.2661
    | Wasserstein GAN (Arjovsky, Chintala and Bottou, 2017), Algorithm 1: the clipped critic
    | https://arxiv.org/abs/1701.07875
    | Towards Principled Methods for Training GANs (Arjovsky and Bottou, 2017), Section 3: noise on what D sees
    | https://arxiv.org/abs/1701.04862
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
from reverie.core.errors import RequestError
from reverie.core.noise import Noise
from reverie.core.player import Loss, OptimizerConfig, Player, Turn
from reverie.core.space import Space
from reverie.maths import adversarial, penalties

ADAM = OptimizerConfig(name="adam", lr=2e-4, betas=(0.5, 0.999))
"""Section 4 of the DCGAN paper."""


class Sampling(core.Sampling):
    """How samples are drawn: z is normal, and so far nothing is to be chosen."""


class Config(core.ModelConfig):
    """The model's configuration.

    Arguments:
        latent: the length of z, standard normal.
        objective: a name from ``maths/adversarial.py``.
        penalties: names from ``maths/penalties.py`` and their weights, gamma or lambda.
        smoothing: the share of real rows that D is told are not real (one-sided label smoothing).
        clip: the greatest size of D's weights, which are cut to it after each of its steps; None leaves them.
        input_noise: the standard deviation of normal noise on all that D sees, falling to 0 over the training.
        discriminator_turns: the discriminator's steps in each round.
        generator: the network of G.
        discriminator: the network of D.
        generator_optimizer: how G steps.
        discriminator_optimizer: how D steps.
        sampling: how samples are drawn.
    """

    latent: int = Field(100, ge=1)
    objective: str = "non-saturating"
    penalties: dict[str, float] = Field({})
    smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    clip: float | None = Field(None, gt=0.0)
    input_noise: float = Field(0.0, ge=0.0)
    discriminator_turns: int = Field(1, ge=1)
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

    def __init__(self, config: Config, space: Space, parts: Mapping[str, core.Part]) -> None:
        super().__init__(config, space, parts)
        game = adversarial.objective(config.objective)
        self.objective = adversarial.smoothed(game, config.smoothing) if config.smoothing else game
        self.penalties = {name: penalties.penalty(name) for name in config.penalties}
        self.generator = catalog.network("generator", config.generator, space, auto("dcgan"), latent=config.latent)
        self.discriminator = catalog.network("discriminator", config.discriminator, space, auto("dcgan"))

    def players(self) -> Sequence[Player]:
        config = self.config
        return (
            Player(
                name="discriminator",
                modules=[self.discriminator],
                loss=self.discriminator_loss,
                optimizer=config.discriminator_optimizer,
                turns=config.discriminator_turns,
                after_turn=None if config.clip is None else self._clip,
                compile=not self.penalties,  # gradient penalties differentiate twice
            ),
            Player(
                name="generator",
                modules=[self.generator],
                loss=self.generator_loss,
                optimizer=config.generator_optimizer,
            ),
        )

    def averaged(self) -> Sequence[nn.Module]:
        return (self.generator,)

    def discriminator_loss(self, turn: Turn) -> Loss:
        """Equation 3: the game from the discriminator's side, and the penalties on its slope."""
        batch = turn.batch
        x = self._blurred(batch.x, turn, "real")
        y = self._blurred(self._shared_fakes(turn).detach(), turn, "fake")
        sloped = [penalty.at for penalty in self.penalties.values()]
        points = {at: penalties.PLACES[at](x, y, turn.noise) for at in dict.fromkeys(["real", "fake", *sloped])}
        points = {at: p.detach().requires_grad_() if at in sloped else p for at, p in points.items()}
        # Two calls, never one of both: batch norm must see real and generated rows apart.
        logits = {at: self.discriminator(p, batch.condition) for at, p in points.items()}
        real, fake = logits["real"], logits["fake"]
        terms = {"adversarial": self.objective.discriminator(real, fake).mean()}
        slopes = {at: penalties.slope(logits[at], points[at]) for at in dict.fromkeys(sloped)}
        for name, penalty in self.penalties.items():
            terms[name] = self.config.penalties[name] * penalty.measure(slopes[penalty.at]).mean()
        return Loss(terms, {"real": real.mean(), "fake": fake.mean(), "told apart": (real > fake).float().mean()})

    def generator_loss(self, turn: Turn) -> Loss:
        """Equation 2 from the generator's side; a paired objective looks at the real rows too."""
        batch = turn.batch
        fakes = batch.scratch.pop("fakes", None) if turn.index == 0 else None
        if fakes is None:
            fakes = self._fakes(batch, turn.noise)
        fake = self.discriminator(self._blurred(fakes, turn, "fake"), batch.condition)
        real = fake
        if self.objective.paired:
            with torch.no_grad():
                real = self.discriminator(self._blurred(batch.x, turn, "real"), batch.condition)
        spread = fakes.detach().float().std(0).mean()
        return Loss({"adversarial": self.objective.generator(real, fake).mean()}, {"spread": spread})

    def _blurred(self, x: Tensor, turn: Turn, side: str) -> Tensor:
        """Rows as D sees them: with noise that falls to 0, which makes the two sides overlap while they are apart."""
        scale = self.config.input_noise * (1.0 - turn.progress.fraction)
        return x + scale * turn.noise.fork(f"blur {side}").normal(*x.shape[1:]) if scale else x

    def _clip(self, loss: Loss) -> None:
        """Cuts D's weights to [-c, c], so that its slope is bounded, though by what is not known."""
        assert self.config.clip is not None
        for weight in self.discriminator.parameters():
            weight.clamp_(-self.config.clip, self.config.clip)

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
        z = noise.fork("z").normal(self.config.latent)
        if not self.space.classes:
            return self._finished(self.generator(z, None))
        label = noise.fork("label").integers(self.space.classes, 1)[:, 0]
        if condition is not None and condition.label is not None:
            label = torch.where(condition.label < 0, label, condition.label)
        return self._finished(self.generator(z, Condition(label=label)))

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
