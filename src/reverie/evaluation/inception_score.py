r"""The Inception Score, on the class probabilities of whatever classifier there is.

.. math:: \mathrm{IS} = \exp E_x\, KL\big(p(y|x), p(y)\big), \qquad p(y) = E_x\, p(y|x)

Between 1 and the number of classes: high where each sample is surely of one class and all classes come up. It sees
neither how samples look beyond their class nor whether they were copied: one memorised image a class scores best.

The interval is by the delta method: with :math:`k_x` the divergence of a row, the score moves by
:math:`\mathrm{IS} \cdot (k_x - E\, k)`, since p(y), the mean, is where the sum of divergences is least.

References:
    | Improved Techniques for Training GANs (Salimans et al., 2016), Section 4
    | https://arxiv.org/abs/1606.03498
    | A Note on the Inception Score (Barratt and Sharma, 2018)
    | https://arxiv.org/abs/1801.01973
"""

from __future__ import annotations

import math

from torch import Tensor

from reverie.evaluation.figure import Estimate
from reverie.evaluation.intervals import of_mean


def inception_score(logits: Tensor) -> Estimate:
    """The score of rows.

    Arguments:
        logits: of the classes, ``[N, classes]``.
    """
    log_p = logits.double().log_softmax(1)
    p = log_p.exp()
    divergences = (p * (log_p - p.mean(0).clamp(min=1e-300).log())).sum(1)
    nats = of_mean(divergences)
    assert nats.low is not None
    assert nats.high is not None
    return Estimate(math.exp(nats.value), max(1.0, math.exp(nats.low)), math.exp(nats.high))
