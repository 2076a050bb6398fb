r"""A tighter bound of the likelihood, by importance weights.

.. math:: \log p(x) \ge E \log \frac1K \sum_{k=1}^K \frac{p(x | z_k)\, p(z_k)}{q(z_k | x)}, \qquad z_k \sim q(z | x)

One draw gives the evidence lower bound; with more it rises, and in the limit it is log p(x).

References:
    | Importance Weighted Autoencoders (Burda, Grosse and Salakhutdinov, 2016), Equation 8
    | https://arxiv.org/abs/1509.00519
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reverie.core.capabilities import Reconstructs
from reverie.core.device import finest
from reverie.core.noise import Noise


def importance_bound(model: Reconstructs, x: Tensor, noise: Noise, draws: int) -> Tensor:
    """An unbiased estimate of the bound in nats per row, ``[B]``.

    Arguments:
        model: with a posterior, a prior and a likelihood.
        x: rows ``[B, *space.shape]``.
        noise: of these rows.
        draws: K, at least 1.
    """
    weights = []
    for k in range(draws):
        z, log_q = model.posterior(x, noise.fork(f"draw {k}"))
        weights.append((model.likelihood(x, z) + model.log_prior(z) - log_q).to(finest(x.device)))
    return torch.stack(weights).logsumexp(0) - math.log(draws)
