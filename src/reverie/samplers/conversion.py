r"""A trained denoiser on another path: rows are rescaled, and the time is that of the same signal-to-noise ratio.

.. math:: \hat x_0(x_t, t) = \hat x_0'\Big(\frac{\alpha'_{t'} + \sigma'_{t'}}{\alpha_t + \sigma_t} x_t, t'\Big), \quad
    \frac{\alpha'_{t'}}{\sigma'_{t'}} = \frac{\alpha_t}{\sigma_t}

At equal ratios, rows of two paths differ by a factor alone, so what is believed of x_0 is the same: any solver, grid
and start of one path serve a model trained on another. Even steps are then even on the new path, and the noise that a
stochastic solver adds is the new path's (``reverie sample RUN path=straight``).

References:
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), Section 2 and Appendix B
    | https://arxiv.org/abs/2206.00364
    | Flow Matching Guide and Code (Lipman et al., 2024), Section 4.6.2
    | https://arxiv.org/abs/2412.06264
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises, Path, Posterior
from reverie.core.device import finest
from reverie.core.space import Space
from reverie.maths.paths import Straight, per_row
from reverie.maths.times import log_snr, time_of


@dataclass(frozen=True)
class OnPath:
    """Converts a denoiser.

    Arguments:
        model: a denoiser of whatever path; where the new one has more noise or less than it knows, it is asked at
            its nearer end.
        path: the new path.
    """

    model: Denoises
    path: Path

    @property
    def space(self) -> Space:
        return self.model.space

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Posterior:
        alpha_t, sigma_t = self.path(t)
        time = time_of(self.model.path, log_snr(self.path, t.to(finest(t.device)))).to(t.dtype)
        alpha, sigma = self.model.path(time)
        return self.model.denoise(per_row((alpha + sigma) / (alpha_t + sigma_t), x_t) * x_t, time, condition)

    def enter(self, x: Tensor) -> Tensor:
        return self.model.enter(x)

    def leave(self, z: Tensor) -> Tensor:
        return self.model.leave(z)


def on_path(model: Denoises, path: Path | None) -> Denoises:
    """A denoiser on another path; itself where that is None, or its own."""
    return model if path is None or path == model.path else OnPath(model, path)


def straightened(model: Denoises) -> Denoises:
    """A denoiser on the straight path: what learns from a model, or measures it, need then know one path only."""
    return on_path(model, Straight())
