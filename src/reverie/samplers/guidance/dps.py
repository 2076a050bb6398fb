r"""Diffusion posterior sampling: each step is followed by one down the gradient of the misfit.

.. math:: x_s \leftarrow x_s - \zeta \nabla_{x_t} \lVert y - A \hat x_0(x_t) \rVert_2

It touches the step, so it is a solver around a solver. A need not be linear.

References:
    | Diffusion Posterior Sampling for General Noisy Inverse Problems (Chung et al., 2023), Algorithm 1, with the step
    | size of Appendix D.1
    | https://arxiv.org/abs/2209.14687
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises, Posterior
from reverie.core.noise import Noise
from reverie.samplers.guidance.wrapper import Wrapper, bounded, with_gradient
from reverie.samplers.solver import Solver, State


@dataclass(frozen=True)
class DPS(Solver):
    """Steps as another solver does, then towards rows that look like y.

    Arguments:
        inner: the other solver.
        operator: A.
        y: what is seen, ``[B, ...]``.
        scale: zeta.
    """

    inner: Solver
    operator: Callable[[Tensor], Tensor]
    y: Tensor
    scale: float = 1.0

    def init(self, x_t: Tensor, steps: int = 1) -> State:
        return self.inner.init(x_t, steps)

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
        def misfit(x_t: Tensor, x_0: Tensor) -> Tensor:
            return (self.y - self.operator(x_0)).flatten(1).norm(dim=1)

        found, slope = with_gradient(model, x_t, t, condition, misfit)
        x_s, state = self.inner.step(_Recalled(model, x_t, found), x_t, t, s, condition, noise, state)
        return bounded(x_s - self.scale * slope, x_s, f"scale = {self.scale:g}", t), state


@dataclass(frozen=True)
class _Recalled(Wrapper):
    """A denoiser that remembers one posterior, so that it is not computed twice."""

    x_t: Tensor
    found: Posterior

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Posterior:
        return self.found if x_t is self.x_t else self.model.denoise(x_t, t, condition)
