"""What one row is: of data or of latents."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from reverie.core.errors import RequestError


@dataclass(frozen=True)
class Space:
    """The shape and the values of one row ``x``, stored with a run so that it loads without its data.

    Arguments:
        shape: ``(C, H, W)`` for images, ``(D,)`` for points.
        levels: None for floats (images in [-1, 1]); K for integers 0..K-1.
        depth: how many evenly spaced values in [-1, 1] float rows lie on (256 for bytes, 2 for
            binarised images); None where they are continuous. A discrete likelihood needs it.
        classes: how many labels there are; 0 where rows have none.
        count: rows in the training split (free codes, kernel densities).
        maps: channels of the image that each row is conditioned on (``Condition.image``); 0 where there is none.
        within: the least and the greatest value of the training rows, where they are points; None where not known.
        between: of latents that are floats: the ends of their uniform prior; None where it is standard normal.
        picture: the shape of the picture that each row is conditioned on (``Condition.image``) where rows are none
            themselves, but tags; empty otherwise.
        sequence: values in each element of the sequence that each row is conditioned on (``Condition.sequence``);
            0 where there is none.
    """

    shape: tuple[int, ...]
    levels: int | None = None
    depth: int | None = None
    classes: int = 0
    count: int = 0
    maps: int = 0
    sequence: int = 0
    picture: tuple[int, ...] = ()
    within: tuple[float, float] | None = None
    between: tuple[float, float] | None = None

    @property
    def drawn_from(self) -> tuple[int, ...]:
        """The shape of the picture or the maps that samples need (``Condition.image``); empty where they need none."""
        return self.picture or ((self.maps, *self.shape[1:]) if self.maps else ())

    @property
    def range(self) -> tuple[float, float] | None:
        """The ends between which all values of rows lie, and so their means; None where they are not known."""
        return (-1.0, 1.0) if self.depth else self.within

    @property
    def is_image(self) -> bool:
        """Whether rows are images ``(C, H, W)`` rather than points ``(D,)``."""
        return len(self.shape) == 3

    def image(self, network: str) -> tuple[int, int, int]:
        """Channels, height and width, for a network of images.

        Raises:
            RequestError: rows are points.
        """
        if not self.is_image:
            raise RequestError(f"a {network} needs images [C, H, W], not rows of shape {list(self.shape)}; try mlp")
        return self.shape[0], self.shape[1], self.shape[2]

    def at(self, side: int | None) -> tuple[int, ...]:
        """The shape of a sample whose height and width are ``side``; that of a row where it is None.

        Raises:
            RequestError: rows are points, or come with maps, whose size is theirs.
        """
        if side is None:
            return self.shape
        if not self.is_image or self.maps:
            what = "maps, whose size it takes" if self.maps else "points"
            raise RequestError(f"size is of images; this model draws {'from ' if self.maps else ''}{what}")
        return (self.shape[0], side, side)

    @property
    def size(self) -> int:
        """The number of values in one row."""
        return prod(self.shape)
