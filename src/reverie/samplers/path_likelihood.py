r"""Exact log-likelihoods through the probability flow of any path.

In the coordinates in which the path is straight, z = x_t / (alpha_t + sigma_t) and r = sigma_t / (alpha_t + sigma_t),

.. math:: \frac{dz}{dr} = E[\epsilon - x_0 | x_t], \quad \log p(x) = \log N(z_1; 0, k^2 I)
    + \int_{r_0}^{r_1} \nabla_z \cdot \frac{dz}{dr} \, dr - D \log(\alpha_0 + \sigma_0), \quad
    k = \frac{\sqrt{\alpha_1^2 + \sigma_1^2}}{\alpha_1 + \sigma_1}

so that even steps of r serve every path, whatever it calls the time. A row x is taken as what sampling ends with, x_t
at t = 0: the data, or where the path begins with a trace of noise, what it makes of them.

References:
    | Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), Appendix D.2
    | https://arxiv.org/abs/2011.13456
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reverie.core.capabilities import Path
from reverie.core.device import finest
from reverie.maths.paths import per_row, prior_scale
from reverie.maths.times import time_of
from reverie.samplers.likelihood import Velocity, log_likelihood


def path_log_likelihood(path: Path, velocity: Velocity, x: Tensor, steps: int, exact: bool, probes: int = 1) -> Tensor:
    """Returns log p(x) in nats, ``[B]``.

    Arguments:
        path: from data to noise.
        velocity: E[eps - x_0 | x_t] from x_t ``[B, ...]`` and t ``[B]``, differentiable in x_t.
        x: rows ``[B, ...]``.
        steps: of Runge and Kutta's, four evaluations each.
        exact: whether the divergence is exact.
        probes: random sign vectors a row where it is not.
    """
    ends = torch.tensor([0.0, 1.0], dtype=finest(x.device), device=x.device)
    alphas, sigmas = (values.tolist() for values in path(ends))
    starts = [sigma / (alpha + sigma) for alpha, sigma in zip(alphas, sigmas, strict=True)]
    length = starts[1] - starts[0]
    scale = prior_scale(path, x.device) / (alphas[1] + sigmas[1])

    def along(y: Tensor, share: Tensor) -> Tensor:
        """The flow of y = z / k over shares of the way from r_0 to r_1."""
        r = starts[0] + length * share.to(ends.dtype)
        t = time_of(path, torch.log1p(-r) - torch.log(r)).to(y.dtype)
        alpha_t, sigma_t = (per_row(a, y) for a in path(t))
        return length / scale * velocity(y * scale * (alpha_t + sigma_t), t)

    shrunk = scale * (alphas[0] + sigmas[0])
    return log_likelihood(along, x / shrunk, steps, exact, probes) - x[0].numel() * math.log(shrunk)
