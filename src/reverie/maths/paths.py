r"""Paths from data to noise: the coefficients of ``x_t = alpha_t x_0 + sigma_t eps``, t = 0 data, t = 1 noise.

A path is a value object: ``alpha_t, sigma_t = path(t)``. Any path is a straight one in other coordinates,

.. math:: z = \frac{x_t}{\alpha_t + \sigma_t}, \quad r = \frac{\sigma_t}{\alpha_t + \sigma_t}
    \quad\Rightarrow\quad z = (1 - r) x_0 + r \epsilon

which is where the solvers step: no derivative of the path is needed, and both ends are finite. What sets two paths
apart is the signal-to-noise ratio that belongs to a time: at equal ratios, rows differ by a factor alone.

A recipe names a path by its class: ``LinearBetas`` is ``linear-betas`` (see ``path_choice``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from reverie.core.capabilities import Path
from reverie.core.device import CPU, finest
from reverie.maths.ends import check_betas, check_rising


def per_row(a: Tensor, x: Tensor) -> Tensor:
    """A value for each row, ``[B]``, shaped to multiply rows ``x`` of any shape ``[B, ...]``."""
    return a.reshape(-1, *[1] * (x.ndim - 1))


def prior_scale(path: Path, device: torch.device = CPU) -> float:
    r"""The standard deviation of the noise that sampling starts from, :math:`x_1 \sim N(0, s^2 I)`.

    .. math:: s = \sqrt{\alpha_1^2 + \sigma_1^2}

    It is that of x_1 for rows of unit variance: 1 on paths that keep the variance, whether or not they end in pure
    noise, and sigma_1 to the third digit on those that let it explode.
    """
    with torch.no_grad():
        alpha_1, sigma_1 = path(torch.ones(1, dtype=finest(device), device=device))
    return math.hypot(float(alpha_1), float(sigma_1))


def ticks(path: Path) -> int | None:
    """T for paths of T steps, whose times are multiples of 1 / T; None for continuous ones."""
    return path.steps if isinstance(path, LinearBetas | CosineBetas | NoiseLevels) else None


Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
Steps = Annotated[int, Field(ge=2)]


@dataclass(frozen=True)
class Straight:
    r"""Creates the straight path of flow matching and rectified flow.

    .. math:: \alpha_t = 1 - t, \quad \sigma_t = t

    References:
        | Flow Straight and Fast (Liu, Gong and Liu, 2022), Equation 1
        | https://arxiv.org/abs/2209.03003
    """

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t


@dataclass(frozen=True)
class LinearBetas:
    r"""Creates DDPM's path: T steps of noise whose variance rises linearly.

    .. math:: \bar\alpha_i = \prod_{j \le i} (1 - \beta_j), \quad
        \alpha_t = \sqrt{\bar\alpha_{tT}}, \quad \sigma_t = \sqrt{1 - \bar\alpha_{tT}}

    Step i is time t = i / T; between steps log alpha_bar is interpolated linearly. Step 0 is the data.

    Arguments:
        steps: T.
        first: beta_1, the variance of the first step's noise, in (0, 1).
        last: beta_T, no less.

    Raises:
        RequestError: betas fall, or lie outside (0, 1).

    References:
        | Denoising Diffusion Probabilistic Models (Ho, Jain and Abbeel, 2020), Equation 4 and Section 4
        | https://arxiv.org/abs/2006.11239
    """

    steps: Steps = 1000
    first: Share = 1e-4
    last: Share = 0.02

    def __post_init__(self) -> None:
        check_betas(self.first, self.last)

    @cached_property
    def betas(self) -> Tensor:
        """beta_1 … beta_T, float64 ``[T]``."""
        return torch.linspace(self.first, self.last, self.steps, dtype=torch.float64)

    @cached_property
    def log_alpha_bars(self) -> Tensor:
        """log alpha_bar_0 … log alpha_bar_T, float64 ``[T + 1]``."""
        return _log_alpha_bars(self.betas)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return _keeping_variance(_between(self.log_alpha_bars, t))


@dataclass(frozen=True)
class CosineBetas:
    r"""Creates improved DDPM's path: T steps whose alpha_bar falls like a squared cosine.

    .. math:: f_i = \cos^2\Big(\frac{i / T + s}{1 + s} \frac{\pi}{2}\Big), \quad
        \beta_i = \min(1 - f_i / f_{i-1}, 0.999)

    Arguments:
        steps: T.
        offset: s, which keeps the first steps from being too small.

    References:
        | Improved Denoising Diffusion Probabilistic Models (Nichol and Dhariwal, 2021), Equation 17
        | https://arxiv.org/abs/2102.09672
    """

    steps: Steps = 1000
    offset: Positive = 0.008

    @cached_property
    def betas(self) -> Tensor:
        """beta_1 … beta_T, float64 ``[T]``."""
        i = torch.arange(self.steps + 1, dtype=torch.float64)
        f = torch.cos((i / self.steps + self.offset) / (1 + self.offset) * math.pi / 2).square()
        return (1 - f[1:] / f[:-1]).clamp(max=0.999)

    @cached_property
    def log_alpha_bars(self) -> Tensor:
        """log alpha_bar_0 … log alpha_bar_T, float64 ``[T + 1]``."""
        return _log_alpha_bars(self.betas)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return _keeping_variance(_between(self.log_alpha_bars, t))


@dataclass(frozen=True)
class Cosine:
    r"""Creates the cosine path in continuous time; with no offset it is the trigonometric interpolant.

    .. math:: \alpha_t = \cos\Big(\frac{t + s}{1 + s} \frac{\pi}{2}\Big) \Big/
        \cos\Big(\frac{s}{1 + s} \frac{\pi}{2}\Big), \quad \sigma_t = \sqrt{1 - \alpha_t^2}

    Arguments:
        offset: s; at 0, alpha_t = cos(t pi / 2) and sigma_t = sin(t pi / 2).

    References:
        | Improved Denoising Diffusion Probabilistic Models (Nichol and Dhariwal, 2021), Equation 17
        | https://arxiv.org/abs/2102.09672
        | Building Normalizing Flows with Stochastic Interpolants (Albergo and Vanden-Eijnden, 2023), Equation 5
        | https://arxiv.org/abs/2209.15571
    """

    offset: Annotated[float, Field(ge=0)] = 0.008

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        turn = math.pi / 2 / (1 + self.offset)
        first = turn * self.offset  # the angle at t = 0
        # As a sine of what is left, alpha is 0 at t = 1 and no less; as a product, sigma keeps its digits near t = 0.
        alpha = torch.sin(turn * (1 - t)) / math.cos(first)
        return alpha, torch.sqrt(torch.sin(turn * t) * torch.sin(turn * t + 2 * first)) / math.cos(first)


@dataclass(frozen=True)
class VariancePreserving:
    r"""Creates the continuous limit of DDPM's path, the VP SDE.

    .. math:: B_t = \beta_0 t + \tfrac12 (\beta_1 - \beta_0) t^2, \quad
        \alpha_t = e^{-B_t / 2}, \quad \sigma_t = \sqrt{1 - e^{-B_t}}

    Arguments:
        first: beta_0, the rate of noise at t = 0.
        last: beta_1.

    References:
        | Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), Equation 33
        | https://arxiv.org/abs/2011.13456
    """

    first: Positive = 0.1
    last: Positive = 20.0

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return _keeping_variance(-_integrated(self.first, self.last, t))


@dataclass(frozen=True)
class SubVariancePreserving:
    r"""Creates the sub-VP SDE's path: the signal of the VP SDE with less noise.

    .. math:: \alpha_t = e^{-B_t / 2}, \quad \sigma_t = 1 - e^{-B_t}

    Arguments are those of ``VariancePreserving``, and so is B.

    References:
        | Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), Equation 29
        | https://arxiv.org/abs/2011.13456
    """

    first: Positive = 0.1
    last: Positive = 20.0

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        b = _integrated(self.first, self.last, t)
        return torch.exp(-b / 2), torch.expm1(-b).abs()


@dataclass(frozen=True)
class VarianceExploding:
    r"""Creates the VE SDE's path: the signal stays, noise grows exponentially over it.

    .. math:: \alpha_t = 1, \quad \sigma_t^2 = \sigma_\text{min}^2 \Big(
        \Big(\frac{\sigma_\text{max}}{\sigma_\text{min}}\Big)^{2t} - 1\Big)

    (The paper's code leaves out the -1, which matters at t = 0 alone.)

    Arguments:
        smallest: sigma_min.
        largest: sigma_max, about the largest distance between two rows.

    Raises:
        RequestError: the smallest is not less than the largest.

    References:
        | Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), Equation 31
        | https://arxiv.org/abs/2011.13456
    """

    smallest: Positive = 0.01
    largest: Positive = 50.0

    def __post_init__(self) -> None:
        check_rising("smallest", self.smallest, "largest", self.largest)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        rate = math.log(self.largest / self.smallest)
        return torch.ones_like(t), self.smallest * torch.sqrt(torch.expm1(2 * rate * t))


@dataclass(frozen=True)
class NoiseLevels:
    r"""Creates NCSN's path: T levels of noise in geometric progression, the signal as it is.

    .. math:: \alpha_i = 1, \quad \sigma_i = \sigma_1 (\sigma_T / \sigma_1)^{(i - 1) / (T - 1)}, \quad \sigma_0 = 0

    Between levels sigma is interpolated linearly. (The paper counts from the largest down.)

    Arguments:
        steps: T.
        smallest: sigma_1.
        largest: sigma_T, about the largest distance between two rows.

    Raises:
        RequestError: the smallest is not less than the largest.

    References:
        | Generative Modeling by Estimating Gradients of the Data Distribution (Song and Ermon, 2019), Section 4
        | https://arxiv.org/abs/1907.05600
    """

    steps: Steps = 100
    smallest: Positive = 0.01
    largest: Positive = 50.0

    def __post_init__(self) -> None:
        check_rising("smallest", self.smallest, "largest", self.largest)

    @cached_property
    def sigmas(self) -> Tensor:
        """sigma_0 … sigma_T, float64 ``[T + 1]``."""
        ends = math.log(self.smallest), math.log(self.largest)
        return torch.cat([torch.zeros(1).double(), torch.linspace(*ends, self.steps, dtype=torch.float64).exp()])

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), _between(self.sigmas, t)


@dataclass(frozen=True)
class Edm:
    r"""Creates EDM's path: noise of standard deviation sigma over the signal as it is.

    .. math:: \alpha_t = 1, \quad \sigma_t = \frac{\sigma_\text{max}}{\sigma_\text{max} - \sigma_\text{min}} \Big(
        \big(\sigma_\text{min}^{1/\rho} + t (\sigma_\text{max}^{1/\rho} - \sigma_\text{min}^{1/\rho})\big)^\rho
        - \sigma_\text{min}\Big)

    Even times are then the paper's steps (Equation 5), moved by sigma_min so that t = 0 is the data.

    Arguments:
        smallest: sigma_min.
        largest: sigma_max.
        rho: how much shorter steps are near the data.

    Raises:
        RequestError: the smallest is not less than the largest.

    References:
        | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), Equation 5
        | https://arxiv.org/abs/2206.00364
    """

    smallest: Positive = 0.002
    largest: Positive = 80.0
    rho: Annotated[float, Field(ge=1)] = 7.0

    def __post_init__(self) -> None:
        check_rising("smallest", self.smallest, "largest", self.largest)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        low, high = (sigma ** (1 / self.rho) for sigma in (self.smallest, self.largest))
        # low^rho expm1(rho log(1 + …)) is (low + t (high - low))^rho - low^rho, with all its digits near t = 0.
        above = self.smallest * torch.expm1(self.rho * torch.log1p(t * (high / low - 1)))
        return torch.ones_like(t), self.largest / (self.largest - self.smallest) * above


@dataclass(frozen=True)
class LinearLogSnr:
    r"""Creates the path whose log signal-to-noise ratio falls linearly, from gamma as VDM writes it.

    .. math:: \gamma_t = \gamma_0 + (\gamma_1 - \gamma_0) t, \quad
        \alpha_t^2 = \operatorname{sigmoid}(-\gamma_t), \quad \sigma_t^2 = \operatorname{sigmoid}(\gamma_t)

    At t = 0 there is a trace of noise, at -13.3 less than bytes can show.

    Arguments:
        first: gamma_0.
        last: gamma_1, above gamma_0.

    References:
        | Variational Diffusion Models (Kingma et al., 2021), Section 3.2 and Appendix H
        | https://arxiv.org/abs/2107.00630
    """

    first: float = -13.3
    last: float = 5.0

    def __post_init__(self) -> None:
        check_rising("first", self.first, "last", self.last)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        gamma, _ = self.at(t)
        return torch.sigmoid(-gamma).sqrt(), torch.sigmoid(gamma).sqrt()

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """gamma at times of any shape, and its derivative."""
        fall = self.last - self.first
        return self.first + fall * t, torch.full_like(t, fall)


@dataclass(frozen=True)
class Learned:
    """Creates the path of a model that learns its own; it starts as ``LinearLogSnr``, whose arguments it has."""

    first: float = -13.3
    last: float = 5.0

    def __post_init__(self) -> None:
        check_rising("first", self.first, "last", self.last)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return LinearLogSnr(self.first, self.last)(t)


def _log_alpha_bars(betas: Tensor) -> Tensor:
    """log alpha_bar_0 … log alpha_bar_T of beta_1 … beta_T."""
    return torch.cat([torch.zeros(1, dtype=torch.float64), torch.log1p(-betas).cumsum(0)])


def _between(table: Tensor, t: Tensor) -> Tensor:
    """The values at times in [0, 1] of a table over even times, linearly between its entries."""
    steps = len(table) - 1
    table = table.to(t.device, t.dtype)
    place = t * steps
    below = place.floor().clamp(0, steps - 1)
    return torch.lerp(table[below.long()], table[below.long() + 1], place - below)


def _keeping_variance(log_alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma with alpha^2 + sigma^2 = 1, from log alpha^2."""
    # 1 - alpha_bar is 1e-4 after one step: expm1 keeps all its digits. abs, since minus 0 has no logarithm.
    return torch.exp(log_alpha_bar / 2), torch.sqrt(torch.expm1(log_alpha_bar).abs())


def _integrated(first: float, last: float, t: Tensor) -> Tensor:
    """The integral from 0 to t of a rate that rises linearly from ``first`` to ``last``."""
    return first * t + 0.5 * (last - first) * t**2
