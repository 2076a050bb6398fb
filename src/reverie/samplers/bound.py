r"""The variational bound of a chain of Gaussian steps from noise to data, with any denoiser on any path.

.. math:: \log p(x_0) \ge -KL(q(x_1 | x_0), N(0, s^2 I)) - \sum_{i > 1} KL(q(x_{t_{i-1}} | x_{t_i}, x_0),
    p(x_{t_{i-1}} | x_{t_i})) + \log p(x_0 | x_{t_1}), \quad t_i = i / T

Prior and reconstruction are always evaluated; of the sum, a few times, stratified over the distribution that makes
likely what weighs much, so that the whole is unbiased.

References:
    | Denoising Diffusion Probabilistic Models (Ho, Jain and Abbeel, 2020), Equation 5
    | https://arxiv.org/abs/2006.11239
    | Improved Denoising Diffusion Probabilistic Models (Nichol and Dhariwal, 2021), Equations 4 to 7 and 15
    | https://arxiv.org/abs/2102.09672
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises, Path, Posterior
from reverie.core.noise import Noise
from reverie.maths.densities import gaussian_kl, gaussian_log_prob
from reverie.maths.discretised_gaussian import discretised_gaussian_log_prob
from reverie.maths.paths import per_row, prior_scale
from reverie.maths.posteriors import LearnedStep, backward

TYPICAL_VARIANCE = 0.05
"""Of a pixel given its neighbours: shapes which terms of the bound are evaluated, never its expectation."""


@dataclass(frozen=True)
class Chain:
    """Creates a chain of T steps.

    Arguments:
        path: from data to noise; at t = 0 there is no noise.
        steps: T.
        times: of the T - 1 inner terms, how many are evaluated; T - 1 for all.
        variance: of its steps: ``beta``, ``posterior`` (beta-tilde), or the denoiser's own where it has learned one.
    """

    path: Path
    steps: int
    times: int
    variance: Literal["beta", "posterior"] = "beta"

    def bound(self, model: Denoises, x: Tensor, noise: Noise, condition: Condition | None = None) -> Tensor:
        """An unbiased estimate of the bound in nats, ``[B]``."""
        total = -self.prior(x) + self.reconstruction(model, x, noise.fork("first"), condition)
        for step, weight in self.inner_steps(noise.fork("times")):
            total = total - weight * self.divergence(model, x, step, noise, condition)
        return total

    def prior(self, x: Tensor) -> Tensor:
        """KL(q(x_1 | x_0), N(0, s^2 I)), ``[B]``."""
        alpha_1, sigma_1 = (per_row(a, x) for a in self.path(x.new_ones(len(x))))
        scale = prior_scale(self.path, x.device)
        return gaussian_kl(alpha_1 / scale * x, torch.log(sigma_1 / scale)).flatten(1).sum(1)

    def reconstruction(self, model: Denoises, x: Tensor, noise: Noise, condition: Condition | None = None) -> Tensor:
        """log p(x_0 | x_{t_1}), ``[B]``."""
        t = x.new_full((len(x),), 1 / self.steps)
        alpha_t, sigma_t = (per_row(a, x) for a in self.path(t))
        x_t = alpha_t * x + sigma_t * noise.normal(*x.shape[1:])
        return self.reconstruction_of(model.denoise(x_t, t, condition), x, model.space.depth)

    def reconstruction_of(self, posterior: Posterior, x: Tensor, depth: int | None) -> Tensor:
        """log p(x_0 | x_{t_1}) from the posterior there: the mean is that of x_0, the variance beta_1 or learned.

        Rows of ``depth`` levels have a discrete likelihood, others a density.
        """
        t = x.new_full((len(x),), 1 / self.steps)
        sigma = per_row(self.path(t)[1], x)
        if isinstance(posterior, LearnedStep):
            # beta-tilde is 0 in the first step: the paper takes the second one's.
            tilde = per_row(backward(self.path, 2 * t, t).variance, x)
            share = posterior.step_variance
            sigma = sigma**share * tilde ** ((1 - share) / 2)
        if depth:
            log_prob = discretised_gaussian_log_prob(x, posterior.mean, sigma, depth)
        else:
            log_prob = gaussian_log_prob(x, posterior.mean, torch.log(sigma))
        return log_prob.flatten(1).sum(1)

    def divergence(
        self, model: Denoises, x: Tensor, step: Tensor, noise: Noise, condition: Condition | None = None
    ) -> Tensor:
        """KL(q(x_{t_{i-1}} | x_{t_i}, x_0), p(x_{t_{i-1}} | x_{t_i})) at steps i ``[B]`` of 2 … T, ``[B]``."""
        t = step.to(x.dtype) / self.steps
        alpha_t, sigma_t = (per_row(a, x) for a in self.path(t))
        x_t = alpha_t * x + sigma_t * noise.normal(*x.shape[1:])
        return self.divergence_of(model.denoise(x_t, t, condition), x, step)

    def divergence_of(self, posterior: Posterior, x: Tensor, step: Tensor) -> Tensor:
        """The same from the posterior of x_0 at x_t: the two means differ in that of x_0 alone."""
        t, s = (i.to(x.dtype) / self.steps for i in (step, step - 1))
        q = backward(self.path, t, s)
        if isinstance(posterior, LearnedStep):
            b, tilde, given = per_row(q.b, x), per_row(q.variance, x), q.between(posterior.step_variance)
            ratio = tilde / given
            each = 0.5 * (ratio - 1 - torch.log(ratio) + b**2 / given * (x - posterior.mean).square())
            return each.flatten(1).sum(1)
        error = (x - posterior.mean).flatten(1).square().sum(1)
        given = q.fresh if self.variance == "beta" else q.variance
        ratio = q.variance / given
        return 0.5 * (x[0].numel() * (ratio - 1 - torch.log(ratio)) + q.b**2 / given * error)

    def term(self, posterior: Posterior, x: Tensor, step: Tensor, depth: int | None) -> Tensor:
        """The term of the negative bound at steps ``[B]`` of 1 … T in nats, ``[B]``; at 1 it is the reconstruction's.

        Arguments:
            posterior: a ``Dirac`` or a ``LearnedStep``, of x_0 at x_t.
            x: rows ``[B, ...]``.
            step: int64 ``[B]``.
            depth: as in ``reconstruction_of``.
        """
        inner = self.divergence_of(posterior, x, step.clamp_min(2))
        # Rows of other steps stand in with their own x_0: far from its mean a bin has no probability to take logs of.
        mean = torch.where(per_row(step, x) > 1, x, posterior.mean)
        first: Posterior = replace(posterior, mean=mean)  # type: ignore[type-var]  # both are dataclasses
        return torch.where(step > 1, inner, -self.reconstruction_of(first, x, depth))

    def terms(self, posterior: Posterior, x: Tensor, step: Tensor, depth: int | None) -> dict[str, Tensor]:
        """The negative bound in nats, ``[B]`` each: with steps that are uniform on 1 … T their sum is unbiased.

        Arguments are those of ``term``.
        """
        all_steps = self.steps * self.term(posterior, x, step, depth)
        nothing = torch.zeros_like(all_steps)
        return {
            "diffusion": torch.where(step > 1, all_steps, nothing),
            "reconstruction": torch.where(step > 1, nothing, all_steps),
            "prior": self.prior(x),
        }

    def inner_steps(self, noise: Noise) -> Iterator[tuple[Tensor, Tensor]]:
        """Steps ``[B]`` of 2 … T and the weights ``[B]`` that make their sum one over all steps."""
        steps = torch.arange(2, self.steps + 1, device=noise.ids.device)
        shares = self._importance(steps)
        edges = shares.cumsum(0)
        u = noise.uniform()
        for k in range(self.times):
            place = torch.searchsorted(edges, (k + u) / self.times * edges[-1], right=True).clamp(max=len(steps) - 1)
            yield steps[place], 1 / (self.times * shares[place])

    def _importance(self, steps: Tensor) -> Tensor:
        """How likely each step is to be evaluated: half evenly, half by the size of its term were data white."""
        if self.times == len(steps):
            return torch.full(steps.shape, 1 / len(steps), device=steps.device)
        t, s = (i.float() / self.steps for i in (steps, steps - 1))
        alpha_t, sigma_t = self.path(t)
        q = backward(self.path, t, s)
        variance = TYPICAL_VARIANCE
        given = q.fresh if self.variance == "beta" else q.variance
        term = q.b**2 / given * variance * sigma_t**2 / (alpha_t**2 * variance + sigma_t**2)
        return 0.5 / len(steps) + 0.5 * term / term.sum()
