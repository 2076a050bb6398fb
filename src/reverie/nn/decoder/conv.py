r"""A convolutional decoder for images of any size: one linear map, then a pyramid of residual blocks, upwards.

.. math:: (B, latent) \to (B, 4 width, H/8, W/8) \to \dots \to (B, outputs, C, H, W)

Each level is nearest-neighbour enlargement and a convolution, which leaves no checkerboard and is faster on a CPU than
a transposed convolution.

References:
    | Deconvolution and Checkerboard Artifacts (Odena, Dumoulin and Olah, 2016)
    | https://distill.pub/2016/deconv-checkerboard
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reverie.core.batch import Condition
from reverie.core.space import Space
from reverie.core.strict import Strict
from reverie.nn.label import LabelVector
from reverie.nn.residual import PlainResidual, halvings


class Config(Strict):
    """The decoder's size.

    Arguments:
        width: channels of the finest level; each coarser one has twice as many, up to ``widest``.
        widest: the most channels a level may have.
        blocks: residual blocks a level.
        stop: the side, in pixels, at which the pyramid begins.
    """

    width: int = Field(32, ge=1)
    widest: int = Field(256, ge=1)
    blocks: int = Field(1, ge=0)
    stop: int = Field(8, ge=1)


class Network(nn.Module):
    """Creates a convolutional decoder.

    Arguments:
        config: its size.
        space: images ``(C, H, W)``.
        latent: the length of z.
        outputs: the number of parameters of each value.
    """

    def __init__(self, config: Config, space: Space, *, latent: int, outputs: int) -> None:
        super().__init__()
        channels, height, width = space.image("conv")
        self.outputs = (outputs, channels)
        self.sizes = halvings(height, width, config.stop)[::-1]
        widths = [min(config.width * 2**level, config.widest) for level in range(len(self.sizes) - 1)][::-1]
        self.label = LabelVector(space.classes, 32)
        self.start = (widths[0], *self.sizes[0])
        self.enter = nn.Linear(latent + self.label.width, widths[0] * self.sizes[0][0] * self.sizes[0][1])
        self.levels = nn.ModuleList(
            nn.Sequential(*(PlainResidual(width) for _ in range(config.blocks))) for width in widths
        )
        self.enlarge = nn.ModuleList(
            nn.Conv2d(here, finer, 3, padding=1) for here, finer in zip(widths, [*widths[1:], widths[-1]], strict=True)
        )
        self.out = nn.Conv2d(widths[-1], outputs * channels, 3, padding=1)

    def forward(self, z: Tensor, condition: Condition | None = None) -> Tensor:
        label = self.label(condition, len(z), z.device)
        h = self.enter(torch.cat([z, label], dim=1)).unflatten(1, self.start)
        for block, enlarge, size in zip(self.levels, self.enlarge, self.sizes[1:], strict=True):
            h = F.interpolate(F.relu(block(h)), size=size, mode="nearest")
            h = F.relu(enlarge(h))  # [B, width, h, w]
        with torch.autocast(h.device.type, enabled=False):  # a byte's likelihood needs more than bf16's 8 bits
            y = F.conv2d(h.float(), self.out.weight, self.out.bias, padding=1)
        return y.unflatten(1, self.outputs)  # [B, outputs, C, H, W]
