r"""Latent arithmetic: what distinguishes b from a is taken from a, and given to c.

.. math:: z = \bar a - \bar b + \bar c

Each is the mean of the latents of a few picked samples: single ones were found to be unstable. Of a model that denoises
the latents are noise of unit variance, which means and differences are not; all four are brought back to it.

References:
    | Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks
    | (Radford, Metz and Chintala, 2016), Section 6.3.2
    | https://arxiv.org/abs/1511.06434
    | Linear combinations of latents in generative models: subspaces and beyond (Bodin et al., 2025), Section 3
    | https://arxiv.org/abs/2408.08558
"""

from __future__ import annotations

import torch
from torch import Tensor

from reverie.core.capabilities import Denoises
from reverie.core.model import Model
from reverie.edit.latents import Latents, decoded


def arithmetic(model: Model, a: Latents, b: Latents, c: Latents) -> Tensor:
    """Rows of the three means and of the result, ``[4, *space.shape]``; a discrete latent is that of c."""
    means = [tuple(mean(part) for part in side) for side in (a, b, c)]
    result = tuple(
        x - y + z if z.is_floating_point() else z for x, y, z in zip(means[0], means[1], means[2], strict=True)
    )
    z = tuple(torch.cat(parts) for parts in zip(*means, result, strict=True))
    return decoded(model, z if model.view(Denoises) is None else tuple(map(of_unit_variance, z)))


def of_unit_variance(z: Tensor) -> Tensor:
    """Noise ``[N, ...]`` of mean square 1 in each row; of points, whose few values tell nothing of it, as it is."""
    square = z.flatten(1).square().mean(1)
    return z * square.rsqrt().view(-1, *[1] * (z.ndim - 1)) if z.ndim > 2 else z


def mean(z: Tensor) -> Tensor:
    """The mean of latents ``[N, ...]``, ``[1, ...]``; of discrete ones the first."""
    return z.mean(0, keepdim=True) if z.is_floating_point() else z[:1]
