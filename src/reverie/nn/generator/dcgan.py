r"""DCGAN's generator: a latent vector is grown to an image by transposed convolutions.

References:
    | Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks
    | (Radford, Metz and Chintala, 2016), Section 3 and Figure 1
    | https://arxiv.org/abs/1511.06434
"""

from __future__ import annotations

from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn

from reverie.core.batch import Condition
from reverie.core.space import Space
from reverie.core.strict import Strict
from reverie.nn.label import LabelVector
from reverie.nn.residual import halvings


class Config(Strict):
    """DCGAN's generator.

    Arguments:
        width: channels before the last layer; doubled at each halving of the size.
        max_width: the most channels anywhere.
        stop: the side, or the next below, at which halving the image stops; the paper has 4 (64, 32, 16, 8, 4).
        norm: batch norm, or none.
        label: the length of a label's vector, which is concatenated to z.
    """

    width: int = Field(64, ge=1)
    max_width: int = Field(512, ge=1)
    stop: int = Field(4, ge=1)
    norm: bool = True
    label: int = Field(32, ge=1)


class Network(nn.Module):
    """Creates the generator: stride-2 transposed 4x4 convolutions, batch norm but at the output, ReLU, tanh.

    The sizes halve (rounding up) from the image down to at most ``stop``: 28, 14, 7, 4 and 64, 32, 16, 8, 4.

    Arguments:
        config: its options.
        space: images ``(C, H, W)``.
        latent: the length of z.
    """

    def __init__(self, config: Config, space: Space, latent: int) -> None:
        super().__init__()
        channels, height, width = space.shape
        self.sizes = halvings(height, width, config.stop)[::-1]  # coarse to fine
        steps = len(self.sizes) - 1
        widths = [min(config.width * 2**i, config.max_width) for i in reversed(range(max(steps, 1)))]
        self.label = LabelVector(space.classes, config.label)
        self.start = nn.Linear(latent + self.label.width, widths[0] * self.sizes[0][0] * self.sizes[0][1], bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(w) if config.norm else nn.Identity() for w in widths)
        grow = [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=not config.norm) for a, b in pairwise(widths)]
        last = nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1) if steps else nn.Conv2d(widths[-1], channels, 3, 1, 1)
        self.layers = nn.ModuleList([*grow, last])
        for layer in (self.start, *self.layers):
            nn.init.normal_(layer.weight, std=0.02)  # Section 4

    def forward(self, z: Tensor, condition: Condition | None = None) -> Tensor:
        """Returns images ``[B, C, H, W]`` in [-1, 1] for z ``[B, latent]``."""
        z = torch.cat([z, self.label(condition, len(z), z.device)], dim=1)
        x = self.start(z).view(len(z), -1, *self.sizes[0])
        sizes = self.sizes[1:] or self.sizes
        for norm, layer, (height, width) in zip(self.norms, self.layers, sizes, strict=True):
            x = layer(torch.relu(norm(x)))[:, :, :height, :width]
        return torch.tanh(x.float())
