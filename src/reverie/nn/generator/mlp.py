"""A generator of fully connected layers, for points and for comparison on images."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reverie.core.batch import Condition
from reverie.core.space import Space
from reverie.core.strict import Strict
from reverie.nn.label import LabelVector


class Config(Strict):
    """Fully connected layers.

    Arguments:
        width: units of each hidden layer.
        depth: hidden layers.
        slope: of the leaky ReLU below 0; 0 makes it a ReLU.
        norm: before each of them: ``batch`` or ``none``.
        start: how weights are drawn. ``he`` keeps the variance of z through all layers (He et al., 2015), without which
            a deep generator begins with one picture for every z; ``narrow`` has a sixth of it and draws biases, too, so
            that ReLUs bend a z of few values at many places. ``auto`` is he for images, narrow for points.
        label: the length of a label's vector, which is concatenated to z.
    """

    width: int = Field(256, ge=1)
    depth: int = Field(3, ge=1)
    slope: float = Field(0.2, ge=0.0, lt=1.0)
    norm: Literal["batch", "none"] = "none"
    start: Literal["auto", "he", "narrow"] = "auto"
    label: int = Field(32, ge=1)


class Network(nn.Module):
    """Creates the generator; images leave through tanh, points as they are.

    Arguments:
        config: its options.
        space: images or points.
        latent: the length of z.
    """

    def __init__(self, config: Config, space: Space, latent: int) -> None:
        super().__init__()
        self.space, self.slope = space, config.slope
        self.label = LabelVector(space.classes, config.label)
        widths = [latent + self.label.width, *[config.width] * config.depth, space.size]
        layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
        if config.start == "he" or (config.start == "auto" and space.is_image):
            for layer in layers:
                nn.init.kaiming_normal_(layer.weight, config.slope)
                nn.init.zeros_(layer.bias)
        self.layers = nn.ModuleList(layers)
        normed = config.norm == "batch"
        self.norms = nn.ModuleList(nn.BatchNorm1d(w) if normed else nn.Identity() for w in widths[1:-1])

    def forward(self, z: Tensor, condition: Condition | None = None) -> Tensor:
        """Returns rows ``[B, *space.shape]`` for z ``[B, latent]``."""
        x = torch.cat([z, self.label(condition, len(z), z.device)], dim=1)
        for layer, norm in zip(self.layers[:-1], self.norms, strict=True):
            x = F.leaky_relu(norm(layer(x)), self.slope)
        x = self.layers[-1](x).float().view(-1, *self.space.shape)
        return torch.tanh(x) if self.space.is_image else x
