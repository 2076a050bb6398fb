r"""Adversarial objectives: what the two players of a GAN minimise, as functions of logits.

The discriminator's logits of real and of generated rows, :math:`r = D(x)` and :math:`f = D(G(z))`, are never
squashed: :math:`-\log \mathrm{sigmoid}(r) = \mathrm{softplus}(-r)` holds at any size of :math:`r`.
Each side is returned for each row, so that a batch's loss is a plain mean and splits into micro-batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor

from reverie.core.errors import RequestError, nearest
from reverie.maths.f_divergences import DIVERGENCES, Divergence


@dataclass(frozen=True)
class Objective:
    """One two-player game, both sides to be minimised.

    Arguments:
        discriminator: ``(real, fake) -> [B]``, its loss from logits ``[B]`` of real and generated rows.
        generator: ``(real, fake) -> [B]``; where ``paired`` is false it looks at ``fake`` alone.
        paired: whether the generator's loss also needs the logits of real rows.
        classifies: whether the discriminator's loss is the cross-entropy of telling real from generated.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    paired: bool = False
    classifies: bool = False


def _classify(real: Tensor, fake: Tensor) -> Tensor:
    """Cross-entropy of telling real from generated: ``-log D(x) - log(1 - D(G(z)))``."""
    return F.softplus(-real) + F.softplus(fake)


# Each line: the discriminator's loss, then the generator's.
OBJECTIVES: dict[str, Objective] = {
    # Equation 1 of Goodfellow et al. (2014), https://arxiv.org/abs/1406.2661: G minimises log(1 - D(G(z))).
    "saturating": Objective(_classify, lambda _, f: -F.softplus(f), classifies=True),
    # The same paper's Section 3: G minimises -log D(G(z)), whose gradient does not vanish where D is sure.
    "non-saturating": Objective(_classify, lambda _, f: F.softplus(-f), classifies=True),
    # Equation 9 of Mao et al. (2017), https://arxiv.org/abs/1611.04076, with a = 0, b = c = 1.
    "least-squares": Objective(lambda r, f: 0.5 * ((r - 1).square() + f.square()), lambda _, f: 0.5 * (f - 1).square()),
    # Equation 2 of Arjovsky et al. (2017), https://arxiv.org/abs/1701.07875; the critic must be kept Lipschitz.
    "wasserstein": Objective(lambda r, f: f - r, lambda _, f: -f),
    # Equations 14 and 15 of Lim and Ye (2017), https://arxiv.org/abs/1705.02894.
    "hinge": Objective(lambda r, f: F.relu(1 - r) + F.relu(1 + f), lambda _, f: -f),
    # Equation 2 of Huang et al. (2024), https://arxiv.org/abs/2501.05441, f(t) = -log(1 + e^-t):
    # D maximises E f(D(x) - D(G(z))) and G minimises it; both are written non-saturating, as the paper trains them.
    "relativistic": Objective(lambda r, f: F.softplus(f - r), lambda r, f: F.softplus(r - f), paired=True),
}


def _of(divergence: Divergence) -> Objective:
    """The f-GAN of a divergence: D climbs its bound; G climbs g_f of its own logits, Section 3.2 of the paper."""
    return Objective(
        lambda r, f: divergence.composed(f) - divergence.activation(r), lambda _, f: -divergence.activation(f)
    )


# Nowozin, Cseke and Tomioka (2016), https://arxiv.org/abs/1606.00709, Equation 6, for each divergence.
OBJECTIVES.update({f"fgan-{name}": _of(divergence) for name, divergence in DIVERGENCES.items()})


def objective(name: str) -> Objective:
    """The objective of that name.

    Raises:
        RequestError: there is none.
    """
    if name not in OBJECTIVES:
        raise RequestError(f"no objective '{name}'{nearest(name, OBJECTIVES)}")
    return OBJECTIVES[name]


def smoothed(game: Objective, share: float) -> Objective:
    r"""The same game with one-sided label smoothing: real rows are called real with probability 1 - share.

    The best discriminator is then :math:`D^* = (1 - s)\, p / (p + q)`. Smoothing the other side too would put p_G into
    the numerator, and hold samples where the generator has them already.

    Arguments:
        game: one whose discriminator classifies.
        share: s, within [0, 1).

    Raises:
        RequestError: the game's discriminator does not classify.

    References:
        | Improved Techniques for Training GANs (Salimans et al., 2016), Section 3.4
        | https://arxiv.org/abs/1606.03498
    """
    if not game.classifies:
        raise RequestError("label smoothing needs a cross-entropy: the objective saturating or non-saturating")
    # (1 - s) softplus(-r) + s softplus(r) = softplus(-r) + s r.
    return replace(game, discriminator=lambda r, f: game.discriminator(r, f) + share * r)
