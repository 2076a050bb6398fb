r"""How a denoiser is told more than time and label: the switch of latent diffusion.

========================  =============================  =====================================
``none``                  ``net(x, t)``                  time and label only
``concatenation``         ``net([x, image], t)``         the image's channels after those of x
``cross-attention``       ``net(x, t, sequence)``        places attend to the sequence
``hybrid``                ``net([x, image], t, seq.)``   both
========================  =============================  =====================================

``auto`` takes what the rows have.

References:
    | High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), Section 3.3
    | https://arxiv.org/abs/2112.10752
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.core.batch import Condition
from reverie.core.errors import RequestError
from reverie.core.space import Space

Switch = Literal["auto", "none", "concatenation", "cross-attention", "hybrid"]


class Taken(NamedTuple):
    """What a network takes beside x, t and the label.

    Arguments:
        maps: channels of the image; 0 for none.
        sequence: values of each of the sequence's elements; 0 for none.
    """

    maps: int
    sequence: int


def taken(switch: Switch, space: Space) -> Taken:
    """What the switch comes to for a kind of rows.

    Raises:
        RequestError: it asks for what the rows have not.
    """
    if switch == "auto":
        return Taken(space.maps, space.sequence)
    image, sequence = switch in ("concatenation", "hybrid"), switch in ("cross-attention", "hybrid")
    if image and not space.maps:
        raise RequestError(f"condition = {switch} needs rows that come with a map, and these have none")
    if sequence and not space.sequence:
        raise RequestError(f"condition = {switch} needs rows that come with a sequence, and these have none")
    return Taken(space.maps if image else 0, space.sequence if sequence else 0)


def image_like(x: Tensor, condition: Condition | None, maps: int) -> Tensor:
    """The condition's image at the size of x, ``[B, maps, H, W]``; zeros where it is not known.

    Raises:
        RequestError: the image has other channels.
    """
    image = None if condition is None else condition.image
    if image is None:
        return x.new_zeros(len(x), maps, *x.shape[2:])
    if image.shape[1] != maps:
        raise RequestError(f"the map has {image.shape[1]} channels; this model was trained on maps of {maps}")
    if image.shape[2:] != x.shape[2:]:
        image = F.interpolate(image, x.shape[2:], mode="bilinear", antialias=True)
    return image.to(x.dtype)


def concatenated(x: Tensor, condition: Condition | None, maps: int) -> Tensor:
    """Rows with their image's channels after their own, ``[B, C + maps, H, W]``; x itself where ``maps`` is 0."""
    return torch.cat([x, image_like(x, condition, maps)], dim=1) if maps else x


class SequenceInput(nn.Module):
    """Creates the sequence that places attend to: a learned element, and after it the condition's.

    The learned one is all there is where the sequence is not known.

    Arguments:
        width: D, values of each element.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(width))

    def forward(self, condition: Condition | None, rows: int) -> Tensor:
        """Returns ``[B, 1 + L, D]``.

        Raises:
            RequestError: the elements are of another width.
        """
        first = self.first.expand(rows, 1, -1)
        sequence = None if condition is None else condition.sequence
        if sequence is None:
            return first
        if sequence.shape[2] != len(self.first):
            raise RequestError(f"the sequence has elements of {sequence.shape[2]}; this model takes {len(self.first)}")
        return torch.cat([first, sequence.to(first.dtype)], dim=1)
