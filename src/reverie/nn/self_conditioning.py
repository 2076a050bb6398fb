r"""Self-conditioning: a network sees its own first answer beside its input.

.. math:: \tilde y = f([x, 0]), \quad y = f([x, \tilde y])

In training the first answer is shown to half the rows, and has no gradient; the others see zeros, so that the first
pass is trained, too.

References:
    | Analog Bits: Generating Discrete Data using Diffusion Models with Self-Conditioning (Chen et al., 2023), Section 3
    | https://arxiv.org/abs/2208.04202
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def unanswered(x: Tensor) -> Tensor:
    """Rows ``[B, C, ...]`` beside no first answer, ``[B, 2 C, ...]``."""
    return torch.cat([x, torch.zeros_like(x)], dim=1)


def answered_twice(answer: Callable[[Tensor], Tensor], x: Tensor, training: bool) -> Tensor:
    """The second answer, shaped like x.

    Arguments:
        answer: from rows and a first answer, ``[B, 2 C, ...]``, to an answer ``[B, C, ...]``.
        x: rows ``[B, C, ...]``.
        training: whether half the rows see zeros, and the first pass is without gradients.
    """
    with torch.set_grad_enabled(torch.is_grad_enabled() and not training):
        first = answer(unanswered(x))
    if training:
        shown = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) < 0.5
        first = torch.where(shown, first.detach(), torch.zeros_like(x))
    return answer(torch.cat([x, first], dim=1))
