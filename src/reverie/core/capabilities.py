"""What a model can do. Tools ask ``model.view(Capability)``, never for a family.

A model has a capability by having its members; a wrapper answers ``view`` for its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.noise import Noise
from reverie.core.space import Space


class Path(Protocol):
    """The marginal coefficients of ``x_t = alpha_t x_0 + sigma_t eps``, t = 0 data, t = 1 noise."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Returns ``alpha_t, sigma_t``, each shaped like ``t``."""


class Posterior(Protocol):
    """What a denoiser believes of x_0, given x_t."""

    @property
    def mean(self) -> Tensor: ...


@runtime_checkable
class LogProb(Protocol):
    """Has an exact likelihood."""

    def log_prob(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """Returns log p(x) in nats per row, ``[B]``."""


@runtime_checkable
class Bounds(Protocol):
    """Has a lower bound of the likelihood."""

    def elbo(self, x: Tensor, noise: Noise, condition: Condition | None = None) -> Tensor:
        """Returns an unbiased estimate of a lower bound of log p(x) in nats per row, ``[B]``."""


@runtime_checkable
class Decodes(Protocol):
    """Turns latents into rows."""

    @property
    def latents(self) -> tuple[Space, ...]: ...

    def decode(self, z: tuple[Tensor, ...]) -> Tensor:
        """Returns rows ``[B, *space.shape]`` from latents, coarse to fine."""


@runtime_checkable
class Encodes(Decodes, Protocol):
    """Turns rows into latents, and back."""

    def encode(self, x: Tensor, noise: Noise | None = None) -> tuple[Tensor, ...]:
        """Returns latents, coarse to fine; the most likely ones where ``noise`` is None."""


@runtime_checkable
class Reconstructs(Protocol):
    """Has a prior of latents, an approximate posterior, and a likelihood given latents."""

    def posterior(self, x: Tensor, noise: Noise) -> tuple[tuple[Tensor, ...], Tensor]:
        """Returns z ~ q(z | x) and log q(z | x) in nats per row."""

    def likelihood(self, x: Tensor, z: tuple[Tensor, ...]) -> Tensor:
        """Returns log p(x | z) in nats per row."""

    def log_prior(self, z: tuple[Tensor, ...]) -> Tensor:
        """Returns log p(z) in nats per row."""


@runtime_checkable
class Denoises(Protocol):
    """Estimates x_0 from x_t; solvers, guidance and editing are written on this alone."""

    @property
    def path(self) -> Path: ...

    @property
    def space(self) -> Space: ...

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Posterior:
        """Returns the posterior of x_0, given x_t ``[B, ...]`` at times t ``[B]`` in [0, 1]."""

    def enter(self, x: Tensor) -> Tensor:
        """Takes rows of data to where denoising happens."""

    def leave(self, z: Tensor) -> Tensor:
        """Takes rows from where denoising happens back to data."""


Change = Callable[[int, Tensor], Tensor]
"""From the number of a feature map and the map, ``[B, C, places]``, to the map that takes its place."""


@runtime_checkable
class Steers(Protocol):
    """Lets the feature maps of its network be read, and changed, while it denoises.

    No recipe lists it: any model with a network of blocks has it (``nn/features.py``).
    """

    def steered(self, change: Change) -> AbstractContextManager[None]:
        """Within, each pass gives ``change`` its feature maps, from first to last, and goes on with what it returns.

        A network may make several passes in one answer: the last is the one that it comes from.
        """


@runtime_checkable
class Observes(Protocol):
    """Makes the image that it is conditioned on from the row itself: edges, a low resolution, a hole."""

    def observe(self, x: Tensor, noise: Noise) -> Tensor:
        """Returns what is seen of rows x, as ``Condition.image`` takes it."""


@runtime_checkable
class Tags(Protocol):
    """Says what tags a picture has; its samples are tags."""

    def tag(self, x: Tensor, noise: Noise, draws: int) -> Tensor:
        """Returns how often each tag is drawn for each picture in so many draws, ``[B, *space.shape]`` in [0, 1]."""


@runtime_checkable
class Classifies(Protocol):
    """Names the class of a row: a part of it is trained to."""

    def class_logits(self, x: Tensor) -> Tensor:
        """Returns logits ``[B, classes]``."""


@runtime_checkable
class Criticises(Protocol):
    """Scores rows: logits, higher is more like the data."""

    def score(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """Returns scores ``[B]``."""


@runtime_checkable
class Styles(Protocol):
    """Has a mapped latent that can be truncated, mixed and moved."""

    def map(self, z: Tensor, condition: Condition | None = None) -> Tensor: ...

    def synthesize(self, w: Tensor) -> Tensor: ...


@runtime_checkable
class Translates(Protocol):
    """Takes rows to another domain."""

    def translate(self, x: Tensor, to: str) -> Tensor: ...


KINDS = (
    LogProb,
    Bounds,
    Decodes,
    Encodes,
    Reconstructs,
    Denoises,
    Observes,
    Tags,
    Classifies,
    Criticises,
    Styles,
    Translates,
)
ALL: Mapping[str, Any] = {kind.__name__: kind for kind in KINDS}
