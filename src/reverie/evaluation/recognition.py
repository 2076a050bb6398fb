"""What a classifier makes of samples: are they of the class they should be, and is it sure of them?

References:
    | How good is my GAN? (Shmelkov, Schmid and Alahari, 2018)
    | https://arxiv.org/abs/1807.09499
"""

from __future__ import annotations

from torch import Tensor

SURE = 0.9  # the probability from which a row is a clear case


def recognised(logits: Tensor, labels: Tensor) -> float:
    """The share of rows whose most likely class is their label; rows without one (-1) are left out."""
    known = labels >= 0
    return float((logits[known].argmax(1) == labels[known]).double().mean())


def class_shares(logits: Tensor) -> Tensor:
    """The share of rows that fall to each class, ``[classes]``."""
    return logits.argmax(1).bincount(minlength=logits.shape[1]).double() / len(logits)


def confident(logits: Tensor, threshold: float = SURE) -> float:
    """The share of rows whose most likely class has at least that probability."""
    return float((logits.softmax(1).amax(1) >= threshold).double().mean())
