r"""Forgetting how to draw something: the filters that draw it are found by a regression, and left out.

At each place p of the feature map that goes into a generator's last convolution, a logistic regression tells from the
channels there whether p lies in a given box of the image,

.. math:: P(p \in \mathrm{box}) = \mathrm{sigmoid}(w^\top f_p / s + b)

with s the channels' standard deviations. Channels of positive weight are set to zero at every place. In bedrooms, with
boxes drawn around windows, most windows went, and doors or mirrors came in the place of some.

References:
    | Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks
    | (Radford, Metz and Chintala, 2016), Section 6.3.1 and Figure 6
    | https://arxiv.org/abs/1511.06434
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from reverie.core.errors import RequestError
from reverie.core.model import Model
from reverie.core.noise import KeyedNoise
from reverie.edit.latents import decoded, drawn

IMAGES = 200
"""How many the regression sees."""
PLACES = 100
"""The most places of an image that the regression sees, of the box and of elsewhere each."""


class Box(NamedTuple):
    """A rectangle of an image in pixels, from (x_0, y_0) up to and without (x_1, y_1)."""

    x_0: int
    y_0: int
    x_1: int
    y_1: int


def read_box(text: str, shape: tuple[int, ...]) -> Box:
    """``"8,8,20,20"`` as a box of an image ``(C, H, W)``.

    Raises:
        RequestError: it cannot be read so, is empty, or lies outside the image.
    """
    numbers = [part.strip() for part in text.split(",")]
    if len(numbers) != 4 or not all(number.removeprefix("-").isdecimal() for number in numbers):
        raise RequestError(f"'{text}' is no box: write x0,y0,x1,y1 in pixels, as in 8,8,20,20")
    box = Box(*map(int, numbers))
    if box.x_0 >= box.x_1 or box.y_0 >= box.y_1:
        raise RequestError(f"the box {text} is empty: x0,y0 is its upper left corner, x1,y1 its lower right one")
    if min(box) < 0 or box.x_1 > shape[2] or box.y_1 > shape[1]:
        raise RequestError(
            f"the box {text} is not within the image, which is {shape[2]} pixels wide and {shape[1]} high"
        )
    return box


def filters(model: Model, box: Box, share: float = 1.0, count: int = 8, seed: int = 0) -> Tensor:
    """Images with all filters, and from the same latents without those that draw what is in a box.

    Arguments:
        model: one that decodes by convolutions.
        box: where the thing is in the images.
        share: of the channels of positive weight, the strongest share is dropped; the paper drops all.
        count: how many images.
        seed: of the latents.

    Returns:
        ``[2 * count, *space.shape]``: first those with all filters.

    Raises:
        RequestError: the generator has no such layers, or the box or the share do not fit.
    """
    layer = last_convolution(model)
    channels = drawing(model, layer, box, share, seed)
    z = drawn(model, range(count), seed)
    with without(layer, channels):
        less = decoded(model, z)
    return torch.cat([decoded(model, z), less])


def last_convolution(model: Model) -> nn.Module:
    """The convolution that an image passes last.

    Raises:
        RequestError: it passes fewer than two, or the same ones again and again.
    """
    passed: list[nn.Module] = []

    def note(layer: nn.Module, inputs: Any, output: Any) -> None:
        passed.append(layer)

    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        decoded(model, drawn(model, [0], 0))
    finally:
        for handle in handles:
            handle.remove()
    if len(set(passed)) < 2:
        raise RequestError("filters needs a generator with at least two convolutions, which this model has not")
    if passed.count(passed[-1]) > 1:
        raise RequestError("filters needs a generator that draws in one pass; this model takes many steps to an image")
    return passed[-1]


def drawing(model: Model, layer: nn.Module, box: Box, share: float = 1.0, seed: int = 0) -> Tensor:
    """The channels that draw what is in a box, the strongest first, int64 ``[K]``.

    Arguments:
        model: one that decodes.
        layer: the convolution whose input channels they are.
        box: where.
        share: how many of those of positive weight.
        seed: of the latents and the places.

    Raises:
        RequestError: the share is none, the box too small or too large, or no channel has a positive weight.
    """
    from sklearn.linear_model import LogisticRegression

    if not 0.0 < share <= 1.0:
        raise RequestError(f"a share of {share:g} is none: it lies above 0, and is at most 1")
    f, inside = _places(model, layer, box, seed)
    scale = f.std(0, correction=0)
    scale = torch.where(scale > 0.0, scale, 1.0)  # a channel that never changes tells nothing
    regression = LogisticRegression(max_iter=1000).fit((f / scale).numpy(), inside.numpy())
    weight = torch.from_numpy(regression.coef_[0])
    positive = int((weight > 0.0).sum())
    if not positive:
        raise RequestError("no channel stands for the box: what is drawn there is drawn elsewhere as well")
    return weight.argsort(descending=True)[: max(round(share * positive), 1)]


@contextmanager
def without(layer: nn.Module, channels: Tensor) -> Iterator[None]:
    """Within, a layer sees zeros in some of its input channels."""

    def drop(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].index_fill(1, channels.to(inputs[0].device), 0.0), *inputs[1:])

    handle = layer.register_forward_pre_hook(drop)
    try:
        yield
    finally:
        handle.remove()


def _places(model: Model, layer: nn.Module, box: Box, seed: int) -> tuple[Tensor, Tensor]:
    """The channels at places of some images ``[N, C]``, and whether each is in the box ``[N]``; half of them are."""
    maps: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: maps.append(inputs[0]))
    found, block = [], 20
    # Other latents than those that are shown.
    z = drawn(model, range(IMAGES), seed + 1)
    try:
        for i in range(0, IMAGES, block):
            decoded(model, tuple(part[i : i + block] for part in z), block)
            f = maps.pop()[-block:].float().cpu()  # the last rows: a reference batch may come before them
            inside = within(box, model.space.shape, (f.shape[2], f.shape[3])).flatten()
            noise = KeyedNoise(seed, torch.arange(i, i + block), "filters").uniform(len(inside))  # [block, H * W]
            each = min(int(inside.sum()), int((~inside).sum()), PLACES)
            if not each:
                scale = math.ceil(model.space.shape[1] / f.shape[2])
                raise RequestError(f"the box holds all or none of the features' places, which are {scale} pixels wide")
            for side in (inside, ~inside):
                chosen = noise.masked_fill(~side, 2.0).argsort(1)[:, :each]  # [block, each]
                found.append(f.flatten(2).gather(2, chosen[:, None].expand(-1, f.shape[1], -1)).mT.flatten(0, 1))
    finally:
        handle.remove()
    sizes = [len(part) for part in found]
    flags = [torch.full((size,), k % 2 == 0) for k, size in enumerate(sizes)]
    return torch.cat(found), torch.cat(flags)


def within(box: Box, shape: tuple[int, ...], size: tuple[int, int]) -> Tensor:
    """Which places of a feature map ``size`` have their middles in a box of an image ``(C, H, W)``, ``[h, w]``."""
    # Rounded up: a generator may cut a row or column off what its last layer draws.
    rows, columns = (math.ceil(side / places) for side, places in zip(shape[1:], size, strict=True))
    y, x = (torch.arange(size[0]) + 0.5) * rows, (torch.arange(size[1]) + 0.5) * columns
    return ((y >= box.y_0) & (y < box.y_1))[:, None] & ((x >= box.x_0) & (x < box.x_1))
