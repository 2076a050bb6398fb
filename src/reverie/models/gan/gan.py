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
from functools import partial
from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from reverie.core import catalog
from reverie.core import model as core
from reverie.core.batch import Batch, Condition
from reverie.core.choice import Choice, auto
from reverie.core.noise import Noise
from reverie.core.player import Loss, OptimizerConfig, Player, Turn
from reverie.core.space import Space
from reverie.nn import tricks
from reverie.nn.discrimination import Discriminator, judged
from reverie.nn.unrolled import Judge, ahead

ADAM = OptimizerConfig(name="adam", lr=2e-4, betas=(0.5, 0.999))
"""Section 4 of the DCGAN paper."""


class Config(tricks.GameConfig):
    """The model's configuration, and the tricks of ``nn/tricks.py``.

    Arguments:
        latent: the length of z, standard normal.
        unroll: steps that G looks ahead: it answers to D as D would be after them (unrolled GAN).
        unroll_rate: the rate of those steps, by plain gradient descent.
        generator: the network of G.
        discriminator: the network of D.
        generator_optimizer: how G steps.
        discriminator_optimizer: how D steps.
        sampling: how samples are drawn.
    """

    latent: int = Field(100, ge=1)
    unroll: int = Field(0, ge=0)
    unroll_rate: float = Field(0.1, gt=0.0)
    generator: Choice = Choice(name="auto")
    discriminator: Choice = Choice(name="auto")
    generator_optimizer: OptimizerConfig = ADAM
    discriminator_optimizer: OptimizerConfig = ADAM
    sampling: tricks.Sampling = tricks.Sampling()

    @model_validator(mode="after")
    def _fits(self) -> Config:
        if self.unroll and (self.penalties or self.clip is not None or self.history):
            raise ValueError("unroll looks ahead by the game alone, so leave penalties, clip and history out")
        if self.unroll and "adversarial" not in self.generator_terms:
            raise ValueError("unroll is of the term adversarial: without it G answers to features of D as it is")
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
        self.objective = config.game()
        self.tricks = tricks.Tricks(config, space)
        self.generator = catalog.network("generator", config.generator, space, auto("dcgan"), latent=config.latent)
        discriminator = catalog.network("discriminator", config.discriminator, space, auto("dcgan"))
        assert isinstance(discriminator, Discriminator)
        self.discriminator = discriminator
        self.tricks.begin([self.discriminator], [self.generator])

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
                compile=not (config.penalties or config.unroll),  # both differentiate twice
            ),
            Player(
                name="generator",
                modules=[self.generator],
                loss=self.generator_loss,
                optimizer=config.generator_optimizer,
                after_turn=self.tricks.after_generator,
                compile=not config.unroll,
            ),
        )

    def averaged(self) -> Sequence[nn.Module]:
        return (self.generator,)

    def notes(self) -> Sequence[str]:
        return self.tricks.notes([self.discriminator])

    def discriminator_loss(self, turn: Turn) -> Loss:
        """Equation 3: the game from the discriminator's side, and the penalties on its slope."""
        batch = turn.batch
        x = self.tricks.seen(batch.x, turn, "real")
        y = self.tricks.seen(self._shared_fakes(turn).detach(), turn, "fake")
        due = self.tricks.due(turn)
        sloped = dict.fromkeys(penalty.at for penalty, _ in due.values())
        places = dict.fromkeys(["real", "fake", *sloped])
        points = {str(at): self.tricks.place(at, x, y, turn) for at in places}
        logits, slopes = judged(self.discriminator, points, sloped, batch.condition)
        real, fake = logits["real"], logits["fake"]
        terms = {"adversarial": self.objective.discriminator(*self.tricks.labelled(real, fake, turn)).mean()}
        for name, (penalty, weight) in due.items():
            terms[name] = weight * penalty.measure(slopes[penalty.at]).mean()
        terms |= self.tricks.history("discriminator")
        figures, sums = self.tricks.told(real, fake, x)
        return Loss(terms, {"real": real.mean(), "fake": fake.mean(), **figures}, sums)

    def generator_loss(self, turn: Turn) -> Loss:
        """Equation 2 from the generator's side; a paired objective looks at the real rows too."""
        batch = turn.batch
        fakes = batch.scratch.pop("fakes", None) if turn.index == 0 else None
        if fakes is None:
            fakes = self._fakes(batch, turn.noise)
        weights, terms = self.config.generator_terms, dict[str, Tensor]()
        y = self.tricks.seen(fakes, turn, "fake")
        matched = "feature-matching" in weights
        x = self.tricks.seen(batch.x, turn, "real") if matched or self.objective.paired or self.config.unroll else y
        if "adversarial" in weights:
            judge = self._ahead(x, y, turn) if self.config.unroll else self.discriminator
            fake = judge(y, batch.condition)
            real = fake
            if self.objective.paired:
                with torch.set_grad_enabled(self.config.unroll > 0):  # real rows' logits move with D's steps alone
                    real = judge(x, batch.condition)
            terms["adversarial"] = weights["adversarial"] * self.objective.generator(real, fake).mean()
        terms |= self.tricks.matched(partial(self._features, condition=batch.condition), x, y)
        terms |= self.tricks.regularised(self.generator)
        return Loss(terms, {"spread": fakes.detach().float().std(0, correction=0).mean()})

    def _ahead(self, x: Tensor, y: Tensor, turn: Turn) -> Judge:
        """D as it would be after some steps on these rows, told of them as in its own turns."""
        condition = turn.batch.condition

        def loss(judge: Judge) -> Tensor:
            real, fake = self.tricks.labelled(judge(x, condition), judge(y, condition), turn)
            return self.objective.discriminator(real, fake).mean()

        return ahead(self.discriminator, loss, self.config.unroll, self.config.unroll_rate)

    def _features(self, x: Tensor, condition: Condition) -> Tensor:
        return self.discriminator.features(self.discriminator.enter(x, condition))

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
    def sample(self, noise: Noise, condition: Condition | None = None, how: tricks.Sampling | None = None) -> Tensor:
        """Returns one row for each row of ``noise``; labels that are not given are drawn uniformly."""
        z = tricks.latent(noise.fork("z"), self.config.latent, how or self.config.sampling)
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
