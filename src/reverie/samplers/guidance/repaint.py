r"""RePaint: inpainting by replacing what is known at every noise level, with resampling.

.. math:: x_s = m \odot (\alpha_s x_0^\text{known} + \sigma_s z) + (1 - m) \odot x_s^\text{model}

Alone, that leaves the two parts strangers to each other. So time goes back and forth: x_s is taken up again to an
earlier noise level,

.. math:: x_t = \frac{\alpha_t}{\alpha_s} x_s + \sqrt{\sigma_t^2 - \tfrac{\alpha_t^2}{\alpha_s^2} \sigma_s^2} \; z

and stepped down anew, which lets the model draw what is unknown to fit what is known.

References:
    | RePaint: Inpainting using Denoising Diffusion Probabilistic Models (Lugmayr et al., 2022), Algorithm 1
    | https://arxiv.org/abs/2201.09865
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises, Path
from reverie.core.noise import Noise
from reverie.maths.operators import Mask
from reverie.maths.paths import per_row
from reverie.samplers.solver import Solver, State


@dataclass(frozen=True)
class RePaint(Solver):
    """Steps towards data as another solver does, then puts in what is known; steps towards noise by adding noise.

    Arguments:
        inner: the other solver; a stochastic one, or one of one step.
        mask: what is known.
        x: rows ``[B, ...]`` of which it is known.
    """

    inner: Solver
    mask: Mask
    x: Tensor

    def init(self, x_t: Tensor, steps: int = 1) -> State:
        return (torch.tensor(steps), *self.inner.init(x_t, steps))

    def step(
        self,
        model: Denoises,
        x_t: Tensor,
        t: Tensor,
        s: Tensor,
        condition: Condition | None,
        noise: Noise,
        state: State,
    ) -> tuple[Tensor, State]:
        steps, *memory = state
        if bool((s > t).all()):
            x_s = renoised(model.path, x_t, t, s, noise)
            return x_s, self.init(x_s, int(steps))  # what the other remembers lies on the other side of the jump
        x_s, past = self.inner.step(model, x_t, t, s, condition, noise, tuple(memory))
        alpha_s, sigma_s = (per_row(a, x_s) for a in model.path(s))
        z = noise.normal(*x_s.shape[1:]).to(x_s.dtype)
        return torch.where(self.mask.known, alpha_s * self.x + sigma_s * z, x_s), (steps, *past)


def renoised(path: Path, x_t: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
    """Rows at an earlier time t taken to a noisier one s by fresh noise."""
    alpha_t, sigma_t = (per_row(a, x_t) for a in path(t))
    alpha_s, sigma_s = (per_row(a, x_t) for a in path(s))
    ratio = alpha_s / alpha_t
    z = noise.normal(*x_t.shape[1:]).to(x_t.dtype)
    return ratio * x_t + torch.sqrt((sigma_s**2 - ratio**2 * sigma_t**2).clamp_min(0)) * z


def there_and_back(times: Sequence[float], jump: int, resamplings: int) -> list[float]:
    """Times that fall, with every stretch of ``jump`` steps gone through ``resamplings`` times.

    Arguments:
        times: from noise to data.
        jump: steps of a stretch.
        resamplings: 1 goes straight down.
    """
    found = [times[0]]
    for start in range(0, len(times) - 1, jump):
        stretch = list(times[start : start + jump + 1])
        found += [*stretch[1:], *(stretch * (resamplings - 1))]
    return found
