r"""The test error: the share of rows that a classifier gives another class than they have.

.. math:: \frac1n \sum_i \big[\arg\max_k l_k(x_i) \neq c_i\big]

References:
    | Improved Techniques for Training GANs (Salimans et al., 2016), Section 5 and Table 1: of a semi-supervised GAN
    | https://arxiv.org/abs/1606.03498
"""

from __future__ import annotations

from torch import Tensor


def mistaken(logits: Tensor, labels: Tensor) -> Tensor:
    """Which rows are given another class than theirs, bool ``[N]``; rows without a label, -1, are left out.

    Arguments:
        logits: of the classes, ``[B, K]``.
        labels: int64 ``[B]``.
    """
    known = labels >= 0
    return logits[known].argmax(1) != labels[known]
