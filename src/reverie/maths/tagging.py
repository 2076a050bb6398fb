r"""How right the most likely tags are.

.. math:: P_k = \frac{|S_k \cap R|}{k}, \qquad R_k = \frac{|S_k \cap R|}{|R|}

with :math:`S_k` the k most likely tags and R those that the picture has.

References:
    | Deep Convolutional Ranking for Multilabel Image Annotation (Gong et al., 2013), Section 4
    | https://arxiv.org/abs/1312.4894
"""

from __future__ import annotations

from torch import Tensor


def precision_and_recall(scores: Tensor, tags: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Of each row that has a tag: the share of its k most likely tags that are right, and of its tags that are found.

    Arguments:
        scores: how likely each tag is, ``[B, T]``, or ``[T]`` for the same guess for all; of equal ones the first wins.
        tags: which are right, 0 or 1, ``[B, T]``.
        k: at least 1; all tags where there are fewer.

    Returns:
        Two of ``[rows with a tag]``, float64.
    """
    some = tags.any(1)
    scores, tags = scores.expand(tags.shape)[some], tags[some].double()
    first = scores.sort(dim=1, descending=True, stable=True).indices[:, :k]
    right = tags.gather(1, first).sum(1)
    return right / first.shape[1], right / tags.sum(1)
