r"""FreeControl: guidance by energies of the denoiser's own features, without training.

.. math:: \hat\epsilon = \epsilon_\theta(x_t, t, c) - s \, g(x_t; t, y), \qquad g = - \alpha_t \sigma_t \nabla_{x_t} E

with alpha_t so that it fades where x_t shows nothing of the data, and two energies.

Structure: features of the result, in the principal axes of features of seed images, should be those of the picture y
at the same place,

.. math:: E_s = \frac{D}{2} \; \text{mean} \; \big( B^\top f(x_t) - B^\top f(y_t) \big)^2 / \lambda

Appearance: what a principal axis marks should look on average as in a sibling a, the sample from the same noise
without control,

.. math:: E_a = \frac{D}{2} \; \text{mean} \; \big( v_k(x_t) - v_k(a_t) \big)^2 / \lambda, \quad
    v_k = \frac{\sum_p \text{sigmoid}(B_k^\top f_p) f_p}{\sum_p \text{sigmoid}(B_k^\top f_p)}

:math:`\lambda` is the seeds' variance, so that scales carry over between networks.

References:
    | FreeControl: Training-Free Spatial Control of Any Text-to-Image Diffusion Model with Any Condition
    | (Mo et al., 2024), Equations 3 to 6
    | https://arxiv.org/abs/2312.07536
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises, Posterior, Steers
from reverie.core.device import finest
from reverie.maths.paths import per_row
from reverie.maths.posteriors import moved
from reverie.samplers.guidance.wrapper import Wrapper, as_many, bounded, with_gradient


class Axes(NamedTuple):
    """The principal axes of one feature map over seed images.

    Arguments:
        mean: ``[C, 1]``.
        basis: ``[C, K]``, each axis divided by the root of its variance.
        variance: of a channel, on average.
    """

    mean: Tensor
    basis: Tensor
    variance: Tensor


def principal_axes(f: Tensor, count: int) -> Axes:
    """The leading axes of features ``[N, C, places]``."""
    flat = f.transpose(0, 1).flatten(1).to(finest(f.device))  # [C, N places]
    mean = flat.mean(1, keepdim=True)
    variances, axes = torch.linalg.eigh((flat - mean) @ (flat - mean).T / flat.shape[1])
    variances, axes = variances.flip(0)[:count].clamp_min(1e-12), axes.flip(1)[:, :count]
    spread = (flat - mean).square().mean()
    return Axes(mean.to(f.dtype), (axes / variances.sqrt()).to(f.dtype), spread.to(f.dtype))


def features(steers: Steers, model: Denoises, x_t: Tensor, t: Tensor, condition: Condition | None) -> list[Tensor]:
    """All feature maps, ``[B, C, places]`` each; of several passes those of the last, which the answer comes from."""
    heard: dict[int, Tensor] = {}

    def listen(k: int, f: Tensor) -> Tensor:
        heard[k] = f
        return f

    with steers.steered(listen):
        model.denoise(x_t, t, condition)
    return [heard[k] for k in range(len(heard))]


def structure_energy(f: Tensor, wanted: Tensor, axes: Axes) -> Tensor:
    """The mean square by which features ``[B, C, places]`` differ along the axes, ``[B]``."""
    difference = axes.basis.T @ (f - wanted)
    return difference.square().flatten(1).mean(1)


def appearance(f: Tensor, axes: Axes) -> Tensor:
    """The mean features of what each axis marks, ``[B, C, K]``."""
    marks = torch.sigmoid(axes.basis.T @ (f - axes.mean))  # [B, K, places]
    return (f @ marks.transpose(1, 2)) / marks.sum(2)[:, None, :]


@dataclass(frozen=True)
class FreeControl(Wrapper):
    """Guides a denoiser to the structure of a picture.

    Arguments:
        model: a denoiser.
        steers: the model within, whose features are looked at.
        picture: y, ``[B, ...]``.
        seeds: rows ``[N, ...]`` of the kind that the model draws; their features give the axes.
        noise: normals ``[B, ...]`` that take the picture, and the seeds with those repeated, to x_t.
        maps: which feature maps, by number.
        structure: s of E_s.
        appearance: s of E_a.
        siblings: a_t by time, of which the nearest to t counts; needed where appearance is above 0.
        axes: how many a map.
    """

    steers: Steers
    picture: Tensor
    seeds: Tensor
    noise: Tensor
    maps: tuple[int, ...]
    structure: float = 1.0
    appearance: float = 0.0
    siblings: Mapping[float, Tensor] | None = None
    axes: int = 8

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Posterior:
        with torch.no_grad():
            axes, wanted, like = self._wanted(x_t, t, condition)
        heard: dict[int, Tensor] = {}

        def listen(k: int, f: Tensor) -> Tensor:
            heard[k] = f
            return f

        def energy(x_t: Tensor, x_0: Tensor) -> Tensor:
            total = x_t.new_zeros(len(x_t))
            for place, k in enumerate(self.maps):
                total = total + self.structure * structure_energy(heard[k], wanted[place], axes[place])
                if like is not None:
                    difference = appearance(heard[k], axes[place]) - like[place]
                    squares = difference.square().flatten(1).mean(1)
                    total = total + self.appearance * squares / axes[place].variance
            return 0.5 * x_t[0].numel() / len(self.maps) * total

        with self.steers.steered(listen):
            plain, slope = with_gradient(self.model, x_t, t, condition, energy)
        what = f"structure = {self.structure:g}, appearance = {self.appearance:g}"
        sigma_t = per_row(self.path(t)[1], x_t)
        return moved(plain, bounded(plain.mean - sigma_t**2 * slope, plain.mean, what, t))

    def _wanted(
        self, x_t: Tensor, t: Tensor, condition: Condition | None
    ) -> tuple[list[Axes], list[Tensor], list[Tensor] | None]:
        """The axes at time t, the picture's features, and the siblings' appearance."""
        alpha_t, sigma_t = (per_row(a, x_t)[:1] for a in self.path(t))
        y_t = as_many(alpha_t * self.picture + sigma_t * self.noise, x_t)
        repeated = self.noise[torch.arange(len(self.seeds)) % len(self.noise)].flip(-1)
        seeds_t = alpha_t * self.seeds + sigma_t * repeated
        seen = features(self.steers, self.model, seeds_t, t[:1].expand(len(self.seeds)), None)
        axes = [principal_axes(seen[k], self.axes) for k in self.maps]
        heard = features(self.steers, self.model, y_t, t, condition)
        wanted = [heard[k] for k in self.maps]
        if self.appearance == 0 or self.siblings is None:
            return axes, wanted, None
        # The time here has the digits of the rows: the nearest is the same step, equal it need not be.
        time = float(t[0])
        nearest = min(self.siblings, key=lambda stored: abs(stored - time))
        sibling = as_many(self.siblings[nearest], x_t)
        heard = features(self.steers, self.model, sibling, t, condition)
        return axes, wanted, [appearance(heard[k], a) for k, a in zip(self.maps, axes, strict=True)]
