r"""Linear operators on images, y = A x: what is seen of a picture that is to be restored.

Each has its adjoint, :math:`\langle A x, y \rangle = \langle x, A^\top y \rangle`, and its Moore-Penrose
pseudo-inverse, :math:`A A^+ A = A`: of all pictures that look like y the one of least norm.

References:
    | Denoising Diffusion Restoration Models (Kawar et al., 2022), Appendix D
    | https://arxiv.org/abs/2201.11793
    | A Generalized Inverse for Matrices (Penrose, 1955)
    | https://doi.org/10.1017/S0305004100030401
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.core.errors import RequestError
from reverie.core.noise import KeyedNoise
from reverie.core.space import Space

LUMA = (0.299, 0.587, 0.114)
"""The share of red, green and blue in grey: ITU-R BT.601, as Pillow has it."""


class Operator(Protocol):
    """A linear map of images ``[B, *space.shape]``."""

    def __call__(self, x: Tensor) -> Tensor:
        """Returns y = A x, ``[B, ...]``."""

    def adjoint(self, y: Tensor) -> Tensor:
        """Returns A^T y, ``[B, *space.shape]``."""

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """Returns A^+ y, ``[B, *space.shape]``."""


@dataclass(frozen=True)
class Mask:
    """Creates the operator that keeps some pixels and sets the others to 0. It is its own adjoint and inverse.

    Arguments:
        known: bool, broadcast to a row: ``[H, W]``, ``[C, H, W]``, or ``[D]`` for points.

    Raises:
        RequestError: all pixels are known, or none.
    """

    known: Tensor

    def __post_init__(self) -> None:
        if bool(self.known.all()):
            raise RequestError("the mask knows every pixel: there is nothing to fill in")
        if not bool(self.known.any()):
            raise RequestError("the mask knows no pixel: draw samples instead (`reverie sample`)")

    def __call__(self, x: Tensor) -> Tensor:
        return torch.where(self.known, x, torch.zeros_like(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self(y)

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        return self(y)


@dataclass(frozen=True)
class Downsample:
    """Creates the operator that takes the mean over squares of pixels.

    Arguments:
        factor: their side; divides the image's.
    """

    factor: int

    def __call__(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.factor)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.pseudo_inverse(y) / self.factor**2

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        return y.repeat_interleave(self.factor, -2).repeat_interleave(self.factor, -1)


@dataclass(frozen=True)
class Grey:
    """Creates the operator that takes colours ``[B, 3, H, W]`` to grey ``[B, 1, H, W]``.

    Arguments:
        weights: the share of each channel.
    """

    weights: tuple[float, ...] = LUMA

    def __call__(self, x: Tensor) -> Tensor:
        return (x * self._column(x)).sum(1, keepdim=True)

    def adjoint(self, y: Tensor) -> Tensor:
        return y * self._column(y)

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        return self.adjoint(y) / sum(w * w for w in self.weights)

    def _column(self, x: Tensor) -> Tensor:
        return torch.tensor(self.weights, dtype=x.dtype, device=x.device).view(-1, 1, 1)


@dataclass(frozen=True)
class Blur:
    r"""Creates a Gaussian blur, along columns and rows: :math:`A = G_H \otimes G_W`, edges repeated.

    What a blur leaves less than ``least`` of, it takes away: those singular values are 0, so that the
    pseudo-inverse, exact for what is left, multiplies no error by more than 1 / ``least`` a side.

    Arguments:
        shape: ``(H, W)``.
        sigma: the Gaussian's standard deviation in pixels, above 0.
        least: the smallest singular value kept of each side's matrix.
    """

    shape: tuple[int, int]
    sigma: float
    least: float = 0.02

    def __call__(self, x: Tensor) -> Tensor:
        return self._sides(x, self._matrices)

    def adjoint(self, y: Tensor) -> Tensor:
        return self._sides(y, [a.T for a in self._matrices])

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        return self._sides(y, self._inverses)

    def _sides(self, x: Tensor, sides: list[Tensor]) -> Tensor:
        rows, columns = (side.to(x.device, x.dtype) for side in sides)
        return rows @ x @ columns.T

    @cached_property
    def _matrices(self) -> list[Tensor]:
        return [(u * s) @ v for u, s, v in map(self._kept, self.shape)]

    @cached_property
    def _inverses(self) -> list[Tensor]:
        return [(v.T / s) @ u.T for u, s, v in map(self._kept, self.shape)]

    def _kept(self, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """The singular value decomposition of one side's matrix, float64, without what is taken away."""
        u, s, v = torch.linalg.svd(gaussian_matrix(side, self.sigma))
        count = int((s >= self.least).sum())
        return u[:, :count], s[:count], v[:count]


def gaussian_matrix(side: int, sigma: float) -> Tensor:
    """Row i: a Gaussian around pixel i; what falls beyond an edge is mirrored into the image. ``[side, side]``."""
    reach = max(1, round(4 * sigma))
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    places = (torch.arange(side)[:, None] + offsets).remainder(2 * side)
    places = torch.minimum(places, 2 * side - 1 - places)
    empty = torch.zeros(side, side, dtype=torch.float64)
    return empty.scatter_add(1, places, (weights / weights.sum()).expand(side, -1).contiguous())


class Function:
    """Creates an operator from a function alone: its adjoint by autograd, its pseudo-inverse by conjugate gradients.

    Arguments:
        function: from images ``[B, *space.shape]`` to y ``[B, ...]``, differentiable.
        space: what one row is.
        iterations: of the pseudo-inverse, at most.

    Raises:
        RequestError: the function is not linear, fails, or returns no tensor.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], space: Space, iterations: int = 100) -> None:
        self._function, self._shape, self._iterations = function, space.shape, iterations
        check_linear(self, space)

    def __call__(self, x: Tensor) -> Tensor:
        try:
            y = self._function(x)
        except Exception as error:  # it is the user's, and may fail in any way
            raise RequestError(f"the operator fails: {type(error).__name__}: {error}") from error
        if not isinstance(y, Tensor):
            raise RequestError(f"the operator returns {type(y).__name__}, not a tensor")
        return y

    def adjoint(self, y: Tensor) -> Tensor:
        with torch.enable_grad():
            x = y.new_zeros(len(y), *self._shape).requires_grad_()
            (found,) = torch.autograd.grad(self(x), x, y)
        return found

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """Conjugate gradients on A^T A x = A^T y from x = 0, which end at the solution of least norm."""
        right = self.adjoint(y)
        return conjugate_gradients(lambda x: self.adjoint(self(x)), right, self._iterations)


def conjugate_gradients(apply: Callable[[Tensor], Tensor], b: Tensor, iterations: int) -> Tensor:
    """Solves M x = b row by row, M symmetric and positive (semi-)definite, from x = 0.

    Arguments:
        apply: M, of rows ``[B, ...]``.
        b: ``[B, ...]``.
        iterations: at most; a row stops where its residual is a millionth of b, or M proves indefinite.
    """

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).flatten(1).sum(1).view(-1, *[1] * (a.ndim - 1))

    tiny = torch.finfo(b.dtype).tiny
    x, residual, direction = torch.zeros_like(b), b, b
    length = dot(b, b)
    enough = 1e-12 * length
    going = length > 0
    for _ in range(iterations):
        image = apply(direction)
        curvature = dot(direction, image)
        going = (
            going & (length > enough) & (curvature > 0)
        )  # below 0 M is not what it should be, and a step leads astray
        if not bool(going.any()):
            break
        step = torch.where(going, length / curvature.clamp_min(tiny), 0)
        x = x + step * direction
        residual = residual - step * image
        longer = dot(residual, residual)
        direction = residual + longer / length.clamp_min(tiny) * direction
        length = torch.where(going, longer, length)
    return x


def check_linear(operator: Callable[[Tensor], Tensor], space: Space) -> None:
    """Holds A(2 x - 3 z) against 2 A x - 3 A z for random images, and an image alone against the same among others.

    Raises:
        RequestError: they differ, nothing is seen of an image, or the operator returns no rows of finite numbers that
            are the same each time.
    """
    noise = KeyedNoise(0, torch.arange(2), "linear")
    x, z = noise.normal(*space.shape), noise.normal(*space.shape)
    with torch.no_grad():
        seen, again = operator(x), operator(x)
        if not seen.ndim or len(seen) != len(x):
            raise RequestError(f"the operator returns {list(seen.shape)}, not a row for each image, [B, ...]")
        if not bool(seen.isfinite().all()):
            raise RequestError("the operator returns numbers that are not finite")
        if not torch.equal(seen, again):
            raise RequestError("the operator is random: what it makes of an image must be the same each time")
        found, wanted, alone = operator(2 * x - 3 * z), 2 * seen - 3 * operator(z), operator(x[:1])
    if not bool(wanted.any()):
        raise RequestError("the operator is 0 for every image: it sees nothing, and there is nothing to restore from")
    if alone.shape[1:] != wanted.shape[1:] or not torch.allclose(alone, seen[:1], rtol=1e-3, atol=1e-4):
        raise RequestError("the operator mixes the images of a batch: what it makes of one must not depend on others")
    off = float((found - wanted).norm() / wanted.norm().clamp_min(1e-12))
    if not off < 1e-3:
        raise RequestError(
            f"the operator is not linear: A(2x - 3z) and 2 A(x) - 3 A(z) differ by {100 * off:.0f} % "
            "(no offsets, rounding, clamping or gamma)"
        )


def grey(space: Space) -> Grey:
    """What takes images of a space to grey.

    Raises:
        RequestError: they are grey already, or no images.
    """
    if _of_image(space)[0] != 3:
        raise RequestError("grey is made of colours; these images are grey already")
    return Grey()


def downsample(space: Space, factor: int) -> Downsample:
    """What makes images of a space ``factor`` times smaller.

    Raises:
        RequestError: the factor does not divide their sides, or they are no images.
    """
    _, height, width = _of_image(space)
    if factor < 2 or height % factor or width % factor:
        raise RequestError(f"factor={factor} is no whole number above 1 that divides {height} and {width}")
    return Downsample(factor)


def blur(space: Space, sigma: float) -> Blur:
    """What blurs images of a space by ``sigma`` pixels.

    Raises:
        RequestError: sigma leaves nothing of them, or changes nothing; or they are no images.
    """
    _, height, width = _of_image(space)
    most = min(height, width) / 4
    if not 0.1 <= sigma <= most:
        raise RequestError(
            f"sigma={sigma:g} pixels does not lie between 0.1 and {most:g}, a quarter of the image's side"
        )
    return Blur((height, width), sigma)


def _of_image(space: Space) -> tuple[int, int, int]:
    if not space.is_image:
        raise RequestError(f"operators are of images; these rows have the shape {list(space.shape)}")
    return space.image("operator")
