r"""A network behind fixed factors that make its input, its target and its errors alike at every noise level.

.. math:: D(x, \sigma) = c_\text{skip} x + c_\text{out} F(c_\text{in} x, c_\text{noise}), \quad
    c_\text{skip} = \frac{\sigma_d^2}{\sigma^2 + \sigma_d^2}, \quad
    c_\text{out} = \frac{\sigma \sigma_d}{\sqrt{\sigma^2 + \sigma_d^2}}, \quad
    c_\text{in} = \frac{1}{\sqrt{\sigma^2 + \sigma_d^2}}, \quad c_\text{noise} = \tfrac14 \ln \sigma

with :math:`\sigma = \sigma_t / \alpha_t` and :math:`x = x_t / \alpha_t` on the straight path, both ends included.

References:
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), Table 1, Equation 7
    | https://arxiv.org/abs/2206.00364
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reverie.core.batch import Condition
from reverie.core.space import Space
from reverie.maths.paths import Straight, per_row
from reverie.maths.posteriors import Dirac

LEAST, MOST = 2e-3, 1e3
"""Noise levels that a network is told apart; beyond them it sees the nearest."""


class Preconditioned(nn.Module):
    """Creates a denoiser on the straight path.

    Arguments:
        network: a network of ``nn/denoiser``.
        space: what one row is.
        sigma_data: the data's standard deviation.
    """

    def __init__(self, network: nn.Module, space: Space, sigma_data: float = 0.5) -> None:
        super().__init__()
        self.network = network
        self.space = space
        self.path = Straight()
        self.sigma_data = sigma_data

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Dirac:
        alpha_t, sigma_t = (per_row(a, x_t) for a in self.path(t))
        # Multiplied out, so that nothing is divided by alpha_t, which is 0 at t = 1.
        scale = torch.rsqrt(sigma_t**2 + (self.sigma_data * alpha_t) ** 2)
        output = self.network(scale * x_t, self._told(t), condition).to(x_t.dtype)
        skip = self.sigma_data**2 * alpha_t * scale**2
        return Dirac(skip * x_t + self.sigma_data * sigma_t * scale * output)

    def enter(self, x: Tensor) -> Tensor:
        return x

    def leave(self, z: Tensor) -> Tensor:
        return z

    def _told(self, t: Tensor) -> Tensor:
        """c_noise from 0 on, in the units of a network's times, of which 1/1000 turns its fastest wave by 1.

        So the network changes slowly with the noise level, as distances of what it says of neighbours require.
        """
        alpha_t, sigma_t = self.path(t)
        sigma = (sigma_t / alpha_t.clamp_min(1e-9)).clamp(LEAST, MOST)
        return torch.log(sigma / LEAST) / 4000
