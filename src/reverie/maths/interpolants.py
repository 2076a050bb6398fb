r"""Stochastic interpolants between data and a Gaussian: what their latent noise comes to is a path like any other.

.. math:: x_t = I(t, x_0, x_1) + \gamma_t z = \alpha_t x_0 + \beta_t x_1 + \gamma_t z, \quad
    \gamma_t = \sqrt{a \, t (1 - t)}

Where :math:`x_1` is Gaussian, it and z are one noise,

.. math:: \beta_t x_1 + \gamma_t z = \sigma_t \epsilon, \quad \sigma_t = \sqrt{\beta_t^2 + \gamma_t^2}

and velocity, score and denoiser are those of the one-sided interpolant :math:`\alpha_t x_0 + \sigma_t \epsilon`.
(Between two sets of data they are not, and z is a noise of its own: no model here has data at both ends.)

References:
    | Stochastic Interpolants: A Unifying Framework for Flows and Diffusions (Albergo, Boffi and Vanden-Eijnden, 2023),
    | Definition 1, and Section 3.2 for one-sided ones
    | https://arxiv.org/abs/2303.08797
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor


@dataclass(frozen=True)
class Interpolant:
    r"""Creates the path of a stochastic interpolant with latent noise.

    .. math:: \alpha_t, \beta_t = 1 - t, t \quad\text{(linear)} \quad\text{or}\quad
        \cos\tfrac{\pi t}{2}, \sin\tfrac{\pi t}{2} \quad\text{(trigonometric)}, \quad
        \sigma_t = \sqrt{\beta_t^2 + a \, t (1 - t)}

    Arguments:
        kind: of I.
        latent: a, how strong the latent noise is, 0 to 2; at 0 it is ``straight``, or ``cosine`` without offset.
    """

    kind: Literal["linear", "trigonometric"] = "linear"
    latent: Annotated[float, Field(ge=0, le=2)] = 1.0

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        if self.kind == "linear":
            alpha, beta = 1 - t, t
        else:
            alpha, beta = torch.sin(math.pi / 2 * (1 - t)), torch.sin(math.pi / 2 * t)
        return alpha, torch.sqrt(beta**2 + self.latent * t * (1 - t))
