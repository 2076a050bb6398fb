r"""Points between two latents, on a line or on a great circle.

A standard normal z of many dimensions has a length of about :math:`\sqrt d`; the middle of a line between two is
shorter than any that a decoder has seen. On the great circle,

.. math:: z(t) = \frac{\sin((1 - t)\,\omega)}{\sin \omega}\, a + \frac{\sin(t\,\omega)}{\sin \omega}\, b, \qquad
    \cos \omega = \frac{a \cdot b}{\lVert a \rVert\, \lVert b \rVert}

lengths go over from that of a to that of b.

References:
    | Sampling Generative Networks (White, 2016), Section 3
    | https://arxiv.org/abs/1609.04468
    | Animating Rotation with Quaternion Curves (Shoemake, 1985)
    | https://doi.org/10.1145/325165.325242
"""

from __future__ import annotations

import torch
from torch import Tensor

from reverie.core.device import finest


def line(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """(1 - t) a + t b, ``[T, ...]`` for a, b of one shape and t ``[T]``."""
    t = t.view(-1, *[1] * a.ndim)
    return (1.0 - t) * a + t * b


def circle(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """The great circle from a to b, ``[T, ...]``; a line where the two point the same or opposite ways."""
    dtype, exact = a.dtype, finest(a.device)
    a, b, t = a.to(exact), b.to(exact), t.to(exact)
    cos = (a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-12)
    omega = torch.arccos(cos.clamp(-1.0, 1.0))
    if omega.sin() < 1e-4:
        return line(a, b, t).to(dtype)
    t = t.view(-1, *[1] * a.ndim)
    z = ((1.0 - t) * omega).sin() * a + (t * omega).sin() * b
    return (z / omega.sin()).to(dtype)


PATHS = {"spherical": circle, "linear": line}
