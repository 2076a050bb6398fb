r"""What a classifier beside a GAN contributes: the class of a row, or that it is of none."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def named(logits: Tensor, label: Tensor | None) -> Tensor:
    """The cross-entropy of the labels that are known, 0 where none is."""
    assert label is not None
    known = label >= 0
    return F.cross_entropy(logits[known], label[known]) if bool(known.any()) else logits.sum() * 0.0


def ambiguity(logits: Tensor) -> Tensor:
    r"""How far classes are from being equally likely: the cross-entropy of each with 1/K, summed, ``[B]``.

    .. math:: -\sum_k \Big( \tfrac1K \log P_k + \big(1 - \tfrac1K\big) \log (1 - P_k) \Big)

    References:
        | CAN: Creative Adversarial Networks, Generating "Art" by Learning About Styles and Deviating from Style Norms
        | (Elgammal, Liu, Elhoseiny and Mazzone, 2017), Equation 2
        | https://arxiv.org/abs/1706.07068
    """
    share = 1.0 / logits.shape[1]
    log_p = logits.log_softmax(1)
    # 1 - P_k as the sum of all others: where P_k is near 1 the difference has no digits left, and no gradient.
    own = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
    log_rest = log_p[:, None].masked_fill(own, -torch.inf).logsumexp(2)
    return -(share * log_p + (1.0 - share) * log_rest).sum(1)
