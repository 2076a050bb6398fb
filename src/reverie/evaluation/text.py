r"""How well images agree with texts, by an encoder of both.

.. math:: 100\, \max\big(0, \cos(f(x), g(t))\big)

References:
    | CLIPScore: A Reference-free Evaluation Metric for Image Captioning (Hessel et al., 2021), Section 3
    | https://arxiv.org/abs/2104.08718
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from reverie.evaluation.figure import Estimate
from reverie.evaluation.intervals import of_mean


def agreement(images: Tensor, words: Tensor, labels: Tensor) -> Estimate:
    """The mean over rows that have a label.

    Arguments:
        images: ``[N, D]``.
        words: of each class, ``[classes, D]``.
        labels: ``[N]``, -1 for none.
    """
    known = labels >= 0
    cosines = (normalize(images[known].double()) * normalize(words.double())[labels[known]]).sum(1)
    return of_mean(100.0 * cosines.clamp(min=0.0))
