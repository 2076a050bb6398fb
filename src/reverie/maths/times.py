r"""Times to train at and times to sample at.

References:
    | Scaling Rectified Flow Transformers for High-Resolution Image Synthesis (Esser et al., 2024), Section 3.1
    | https://arxiv.org/abs/2403.03206
    | Variational Diffusion Models (Kingma et al., 2021), Appendix I.1: low-discrepancy times
    | https://arxiv.org/abs/2107.00630
"""

from __future__ import annotations

import torch
from torch import Tensor

from reverie.core.noise import GAMMA


def even(ids: Tensor) -> Tensor:
    r"""A number in (0, 1) for each place in the stream of images, evenly spread over any stretch of the stream.

    .. math:: u_i = i / \varphi \bmod 1, \quad \varphi = (1 + \sqrt 5) / 2

    So each batch covers all times with less variance than independent draws, and however it is split.

    Arguments:
        ids: int64 ``[B]``.
    """
    # GAMMA is 2^64 / phi: the product wraps around, and its top 24 bits are exact in float32.
    return ((((ids * GAMMA) >> 40) & 0xFFFFFF).float() + 0.5) * 2.0**-24


def logit_normal(u: Tensor, location: float = 0.0, scale: float = 1.0) -> Tensor:
    r"""Times whose logit is normal, from numbers u in (0, 1): most of them lie between data and noise.

    .. math:: t = \operatorname{sigmoid}(\text{location} + \text{scale} \cdot \Phi^{-1}(u))
    """
    return torch.sigmoid(location + scale * torch.special.ndtri(u))


def time_grid(steps: int, ticks: int | None = None) -> list[float]:
    """Evenly spaced times from 1 (noise) down to 0 (data), ``steps + 1`` of them.

    Arguments:
        steps: how many steps to take, at least 1.
        ticks: where times are multiples of 1 / ticks (DDPM's T): each is the nearest one; steps <= ticks.
    """
    if ticks is None:
        return [1 - i / steps for i in range(steps + 1)]
    return [round(ticks * (steps - i) / steps) / ticks for i in range(steps + 1)]
