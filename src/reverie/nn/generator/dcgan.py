r"""DCGAN's generator: a latent vector is grown to an image by transposed convolutions.

References:
    | Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks
    | (Radford, Metz and Chintala, 2016), Section 3 and Figure 1
    | https://arxiv.org/abs/1511.06434
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from reverie.core.batch import Condition
from reverie.core.space import Space
from reverie.core.strict import Strict
from reverie.nn.activation import Kind, activate, units
from reverie.nn.label import LabelVector
from reverie.nn.residual import halvings
from reverie.nn.virtual_norm import VirtualBatchNorm


class Config(Strict):
    """DCGAN's generator.

    Arguments:
        width: channels before the last layer; doubled at each halving of the size.
        max_width: the most channels anywhere; with ``width`` the number of filters is constant.
        stop: the side, or the next below, at which halving the image stops; the paper has 4 (64, 32, 16, 8, 4).
        norm: ``batch``, ``virtual`` (by a fixed batch of latents and by the row itself, at about twice the price) or
            ``none``.
        reference: rows of the fixed batch of virtual batch norm.
        activation: ``relu``, ``tanh`` or ``gated``.
        label: the length of a label's vector, which is concatenated to z.
    """

    width: int = Field(64, ge=1)
    max_width: int = Field(512, ge=1)
    stop: int = Field(4, ge=1)
    norm: Literal["batch", "virtual", "none"] = "batch"
    reference: int = Field(32, ge=2)
    activation: Kind = "relu"
    label: int = Field(32, ge=1)

    @field_validator("norm", mode="before")
    @classmethod
    def _by_name(cls, norm: object) -> object:
        return ("batch" if norm else "none") if isinstance(norm, bool) else norm  # of runs before it had names


class Network(nn.Module):
    """Creates the generator: stride-2 transposed 4x4 convolutions, batch norm but at the output, ReLU, tanh.

    The sizes halve (rounding up) from the image down to at most ``stop``: 28, 14, 7, 4 and 64, 32, 16, 8, 4.

    Arguments:
        config: its options.
        space: images ``(C, H, W)``.
        latent: the length of z.
    """

    fixed_z: Tensor
    fixed_labels: Tensor

    def __init__(self, config: Config, space: Space, latent: int) -> None:
        super().__init__()
        channels, height, width = space.image("dcgan")
        self.sizes = halvings(height, width, config.stop)[::-1]  # coarse to fine
        steps = len(self.sizes) - 1
        widths = [min(config.width * 2**i, config.max_width) for i in reversed(range(max(steps, 1)))]
        self.activation = kind = config.activation
        self.label = LabelVector(space.classes, config.label)
        first = units(kind, widths[0])
        bias = config.norm == "none"
        self.start = nn.Linear(latent + self.label.width, first * self.sizes[0][0] * self.sizes[0][1], bias=False)
        self.norms = nn.ModuleList(_norm(config, units(kind, width)) for width in widths)
        grow = [nn.ConvTranspose2d(a, units(kind, b), 4, 2, 1, bias=bias) for a, b in pairwise(widths)]
        last = nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1) if steps else nn.Conv2d(widths[-1], channels, 3, 1, 1)
        self.layers = nn.ModuleList([*grow, last])
        for layer in (self.start, *self.layers):
            nn.init.normal_(layer.weight, std=0.02)  # Section 4
        self.reference = config.reference if config.norm == "virtual" else 0
        if self.reference:
            self.register_buffer("fixed_z", torch.randn(self.reference, latent))
            self.register_buffer("fixed_labels", torch.randint(max(space.classes, 1), (self.reference,)))

    def forward(self, z: Tensor, condition: Condition | None = None) -> Tensor:
        """Returns images ``[B, C, H, W]`` in [-1, 1] for z ``[B, latent]``."""
        z = torch.cat([z, self.label(condition, len(z), z.device)], dim=1)
        if self.reference:
            labels = self.label(Condition(label=self.fixed_labels), self.reference, z.device)
            z = torch.cat([torch.cat([self.fixed_z, labels], dim=1), z])
        x = self.start(z).view(len(z), -1, *self.sizes[0])
        sizes = self.sizes[1:] or self.sizes
        for norm, layer, (height, width) in zip(self.norms, self.layers, sizes, strict=True):
            x = layer(activate(norm(x), self.activation))[:, :, :height, :width]
        return torch.tanh(x[self.reference :].float())


def _norm(config: Config, channels: int) -> nn.Module:
    if config.norm == "virtual":
        return VirtualBatchNorm(channels, config.reference)
    return nn.BatchNorm2d(channels) if config.norm == "batch" else nn.Identity()
