r"""A learned noise schedule: the log signal-to-noise ratio as a falling network of the time.

.. math:: \gamma_t = \gamma_0 + (\gamma_1 - \gamma_0) \tilde\gamma(t), \quad
    \tilde\gamma(t) = \frac{h(t) - h(0)}{h(1) - h(0)}, \quad
    h(t) = w t + \sum_k a_k \operatorname{sigmoid}(b_k t + c_k)

with w, a and b positive. The ends are trained for the bound, which knows nothing of what lies between them; that is
trained for a bound that varies less from time to time.

References:
    | Variational Diffusion Models (Kingma et al., 2021), Appendix H and Appendix I.2
    | https://arxiv.org/abs/2107.00630
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.core.errors import RequestError

UNITS = 32


class LearnedSchedule(nn.Module):
    """Creates a path whose schedule is learned; it starts as nearly linear.

    Arguments:
        first: gamma_0 at the start.
        last: gamma_1 at the start.

    Raises:
        RequestError: gamma does not rise.
    """

    def __init__(self, first: float = -13.3, last: float = 5.0) -> None:
        super().__init__()
        if not first < last:
            raise RequestError(f"gamma goes from {first:g} to {last:g}: it must rise, as noise grows with time")
        self.ends = nn.Parameter(torch.tensor([first, last]))
        self.straight = nn.Parameter(torch.zeros(()))  # softplus: w
        self.heights = nn.Parameter(torch.full((UNITS,), -4.0))  # softplus: a, small beside w
        self.slopes = nn.Parameter(torch.linspace(1.0, 10.0, UNITS))  # softplus: b
        self.places = nn.Parameter(-torch.linspace(0.0, 1.0, UNITS) * torch.linspace(1.0, 10.0, UNITS))  # c

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha_t and sigma_t: it is a path."""
        gamma, _ = self.at(t)
        return torch.sigmoid(-gamma).sqrt(), torch.sigmoid(gamma).sqrt()

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """gamma at times of any shape, and its derivative."""
        return self.stretched(*self.shape_at(t))

    def steadied(self, t: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor], None]]:
        r"""The same, for training, with what must be called with the bound's rows ``[B]`` before the backward pass.

        The ends then get the gradient of the mean of the rows l, what lies between them that of their mean square,
        whose least value is the least variance, since the mean does not depend on it:

        .. math:: \nabla E[l^2] = E[2 l \nabla l]
        """
        value, slope = self.shape_at(t)
        factors: list[Tensor] = []
        for part in (value, slope):
            if part.requires_grad:
                part.register_hook(lambda gradient: gradient * factors[0])
        return *self.stretched(value, slope), lambda rows: factors.append(2 * rows.detach())

    def shape_at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """What lies between the ends: gamma-tilde, from 0 to 1, and its derivative."""
        times = torch.cat([t.new_tensor([0.0, 1.0]), t.flatten()]).to(self.ends.device)[:, None]
        a, b, w = (F.softplus(v) for v in (self.heights, self.slopes, self.straight))
        s = torch.sigmoid(b * times + self.places)
        h = w * times[:, 0] + (a * s).sum(1)
        rise = w + (a * b * s * (1 - s)).sum(1)
        whole = h[1] - h[0]
        value, slope = ((part[2:]).view(t.shape).to(t.device) for part in ((h - h[0]) / whole, rise / whole))
        return value, slope

    def stretched(self, value: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """gamma and its derivative, from those of gamma-tilde."""
        first, last = self.ends.to(value.device, value.dtype).unbind()
        return first + (last - first) * value, (last - first) * slope
