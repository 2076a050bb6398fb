r"""How much an error weighs at each noise level, and how often a level is trained.

A weighting is a function w of the signal-to-noise ratio that multiplies the squared error of x_0; the same loss in
terms of what the network predicts divides it by the square of ``predictions.slope``:

.. math:: L = E_t \, w_t \lVert x_0 - \hat x_0 \rVert^2 = E_t \, \frac{w_t}{k_t^2} \lVert y - \hat y \rVert^2

References:
    | Denoising Diffusion Probabilistic Models (Ho, Jain and Abbeel, 2020), Equation 14: ``eps``
    | https://arxiv.org/abs/2006.11239
    | Variational Diffusion Models (Kingma et al., 2021), Equation 17: ``bound``
    | https://arxiv.org/abs/2107.00630
    | Efficient Diffusion Training via Min-SNR Weighting Strategy (Hang et al., 2023), Section 3.4: ``min-snr``
    | https://arxiv.org/abs/2303.09556
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), Table 1: ``edm``
    | https://arxiv.org/abs/2206.00364
    | Perception Prioritized Training of Diffusion Models (Choi et al., 2022), Equation 8: ``p2``
    | https://arxiv.org/abs/2204.00227
    | Simpler Diffusion (Hoogeboom et al., 2024), Section 3.2: ``sigmoid``
    | https://arxiv.org/abs/2410.19324
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from reverie.core.capabilities import Path
from reverie.maths import predictions
from reverie.maths.times import time_of

Weighting = Literal["simple", "eps", "min-snr", "edm", "p2", "sigmoid", "bound"]


def weight(
    weighting: Weighting,
    prediction: predictions.Prediction,
    alpha_t: Tensor,
    sigma_t: Tensor,
    *,
    parameter: float | None = None,
    data_std: float = predictions.DATA_STD,
    fall: Tensor | None = None,
) -> Tensor:
    r"""What the squared error of a prediction is multiplied by, shaped like ``alpha_t``.

    With :math:`\lambda = \log \text{SNR}` and k the slope of the prediction:

    .. math:: \text{simple } 1, \quad \text{eps } \frac{e^\lambda}{k^2}, \quad
        \text{min-snr } \frac{\min(e^\lambda, \gamma)}{k^2}, \quad
        \text{edm } \frac{e^\lambda + \sigma_d^{-2}}{k^2}, \quad
        \text{p2 } \frac{e^\lambda}{(1 + e^\lambda)^\gamma k^2}, \quad
        \text{sigmoid } \frac{e^\lambda \operatorname{sigmoid}(b - \lambda)}{k^2}, \quad
        \text{bound } -\frac{d\lambda}{dt} \frac{e^\lambda}{2 k^2}

    ``simple`` is the plain error of what is predicted; ``eps`` that of the noise, whatever is predicted. The
    measure :math:`d \lambda` of papers that integrate over it is left to how t is drawn; ``bound`` alone has it.

    Arguments:
        weighting: its name.
        prediction: what the network puts out.
        alpha_t: of the path, any shape.
        sigma_t: of the path, above 0.
        parameter: gamma (5 where None) of ``min-snr``, gamma (1) of ``p2``, the bias b (-1) of ``sigmoid``.
        data_std: sigma_d of EDM's weight and prediction.
        fall: :math:`-d\lambda / dt`, for ``bound``.
    """
    if weighting == "simple":
        return torch.ones_like(alpha_t)
    snr = (alpha_t / sigma_t) ** 2
    if weighting == "min-snr":
        of_x_0 = snr.clamp(max=5.0 if parameter is None else parameter)
    elif weighting == "edm":
        of_x_0 = snr + data_std**-2  # (sigma^2 + sigma_d^2) / (sigma sigma_d)^2, sigma^2 = 1 / SNR
    elif weighting == "p2":
        of_x_0 = snr / (1.0 + snr) ** (1.0 if parameter is None else parameter)
    elif weighting == "sigmoid":
        of_x_0 = snr * torch.sigmoid((-1.0 if parameter is None else parameter) - torch.log(snr))
    elif weighting == "bound":
        assert fall is not None, "the bound's weight needs the slope of the signal-to-noise ratio"
        of_x_0 = 0.5 * fall * snr
    else:
        of_x_0 = snr
    return of_x_0 / predictions.slope(prediction, alpha_t, sigma_t, data_std) ** 2


def log_normal(u: Tensor, path: Path, location: float = -1.2, scale: float = 1.2) -> Tensor:
    r"""Times at which the noise, relative to the signal, is log-normal, from numbers u in (0, 1).

    .. math:: \log (\sigma_t / \alpha_t) \sim N(P_\text{mean}, P_\text{std}^2)

    Arguments:
        u: evenly spread numbers.
        path: any; levels that it does not reach become its nearer end.
        location: P_mean.
        scale: P_std.

    References:
        | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), Table 1
        | https://arxiv.org/abs/2206.00364
    """
    return time_of(path, -(location + scale * torch.special.ndtri(u)))


def c_noise(alpha_t: Tensor, sigma_t: Tensor) -> Tensor:
    r"""EDM's :math:`c_\text{noise} = \tfrac14 \log (\sigma_t / \alpha_t)`, brought into [0, 1] as networks take times.

    .. math:: \tfrac12 + \tfrac{1}{16} \log (\sigma_t / \alpha_t)

    which holds relative noise from 0.0003 to 3000.
    """
    smallest = math.exp(-8.0)
    ratio = sigma_t.clamp_min(smallest * 1e-6) / alpha_t.clamp_min(smallest * 1e-6)
    return (0.5 + torch.log(ratio) / 16).clamp(0.0, 1.0)
