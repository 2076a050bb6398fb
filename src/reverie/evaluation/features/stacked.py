"""What tells the 1,000 modes of stacked digits apart: a classifier of single digits, asked about each channel."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reverie.evaluation.features.classifier import Classifier


@dataclass(frozen=True)
class StackedClassifier:
    """A classifier of images whose channels are digits of their own.

    Arguments:
        digit: of one digit.
        accuracy: the share of held-out stacks of which it gets all three right.
    """

    digit: Classifier
    accuracy: float

    def features(self, x: Tensor) -> Tensor:
        """Returns features ``[B, 3 * 128]`` of images ``[B, 3, H, W]`` in [-1, 1]."""
        return self.digit.features(x.flatten(0, 1)[:, None]).reshape(len(x), -1)

    def logits(self, features: Tensor) -> Tensor:
        """Returns log probabilities ``[B, 1000]``: red is the hundreds, green the tens, blue the ones."""
        red, green, blue = self.digit.logits(features.reshape(len(features), 3, -1)).log_softmax(2).unbind(1)
        return (red[:, :, None, None] + green[:, None, :, None] + blue[:, None, None, :]).flatten(1)


def digits_of(source: str) -> str | None:
    """The source of the digits that a source of stacked digits is made of; None for any other."""
    name, _, digits = source.partition(":")
    return (digits or "digits") if name == "stacked-digits" else None
