"""What every denoiser that wraps a denoiser shares: its path, its space, its ways in and out, and when it gives up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises, Path, Posterior
from reverie.core.errors import ReverieError
from reverie.core.space import Space
from reverie.maths.paths import per_row
from reverie.maths.posteriors import Dirac, LearnedStep

EXPLODES = 100.0
"""How many times as far from 0 as the plain estimates, or as 1 where they are nearer, guided ones may lie."""

LEAST_ALPHA = 0.02
"""Where less is left of the data, guidance by gradients is cut down: what is divided by alpha_t is then noise."""


@dataclass(frozen=True)
class Wrapper:
    """The base of guidance: a subclass has ``denoise``.

    Arguments:
        model: the denoiser within.
    """

    model: Denoises

    @property
    def path(self) -> Path:
        return self.model.path

    @property
    def space(self) -> Space:
        return self.model.space

    def enter(self, x: Tensor) -> Tensor:
        return self.model.enter(x)

    def leave(self, z: Tensor) -> Tensor:
        return self.model.leave(z)


class BlowsUp(ReverieError):
    """Guidance is so strong that samples leave every bound.

    Arguments:
        what: the setting, as in ``guidance = 500``.
        t: the time of the step.
        step: its number, and of how many, as in ``step 3 of 50``; where only the loop knows, empty.
    """

    def __init__(self, what: str, t: float, step: str = "") -> None:
        self.what, self.t = what, t
        where = f"{step} (t = {t:.3g})" if step else f"t = {t:.3g}"
        super().__init__(f"{what} blows up at {where}: give less")


def bounded(x_0: Tensor, plain: Tensor, what: str, t: Tensor) -> Tensor:
    """The guided estimates themselves.

    Raises:
        BlowsUp: they are not finite, or far beyond the plain ones.
    """
    largest = float(x_0.detach().abs().max())
    if not largest <= EXPLODES * max(1.0, float(plain.detach().abs().max())):  # not <=: NaN is caught as well
        raise BlowsUp(what, float(t.max()))
    return x_0


def weight(path: Path, t: Tensor, x: Tensor) -> Tensor:
    r"""What takes a gradient in x_t to a shift of E[x_0 | x_t], by Tweedie's formula: sigma_t^2 / alpha_t, per row."""
    alpha_t, sigma_t = (per_row(a, x) for a in path(t))
    return sigma_t**2 / alpha_t.clamp_min(LEAST_ALPHA)


def as_many(a: Tensor, x: Tensor) -> Tensor:
    """Rows ``a`` as many times over as there are rows x for each: guidance around may ask for both branches at once."""
    return a.repeat(len(x) // len(a), *[1] * (a.ndim - 1))


def with_gradient(
    model: Denoises,
    x_t: Tensor,
    t: Tensor,
    condition: Condition | None,
    value: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Posterior, Tensor]:
    """The posterior of x_0, and the gradient in x_t of a value of rows; neither has a gradient itself.

    Arguments:
        model: a denoiser.
        x_t: ``[B, ...]``.
        t: ``[B]``.
        condition: of the rows.
        value: from x_t and the estimate of x_0 to ``[B]``.
    """
    with torch.enable_grad():
        x_t = x_t.detach().requires_grad_()
        posterior = model.denoise(x_t, t, condition)
        (found,) = torch.autograd.grad(value(x_t, posterior.mean).sum(), x_t)
    mean = posterior.mean.detach()
    if isinstance(posterior, LearnedStep):
        return LearnedStep(mean, posterior.step_variance.detach()), found
    return Dirac(mean), found
