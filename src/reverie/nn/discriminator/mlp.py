"""A discriminator of fully connected layers, for points and for comparison on images."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reverie.core.space import Space
from reverie.core.strict import Strict
from reverie.nn.discrimination import Discriminator
from reverie.nn.fourier import FourierFeatures
from reverie.nn.label import LabelPlanes
from reverie.nn.minibatch import MinibatchFeatures
from reverie.nn.projection import ProjectedLogit
from reverie.nn.spectral import spectrally_normalised


class Config(Strict):
    """Fully connected layers.

    Arguments:
        width: units of each hidden layer.
        depth: hidden layers.
        waves: how many random waves are added to the coordinates (Fourier features), for fine structure.
        wave_scale: the standard deviation of their frequencies, in waves per unit.
        minibatch: how many features of a row's closeness to its batch are added (minibatch discrimination).
        spectral: spectral norm, which holds each layer's greatest singular value at one.
        noise: the standard deviation of normal noise that each layer's inputs are given in training, for a classifier
            with few labels (Salimans et al., 2016, use 0.3 to 0.5).
        label: the length of a label's vector.
        label_at: where labels come in: ``head``, as an inner product with the features, or ``input``, concatenated.
    """

    width: int = Field(256, ge=1)
    depth: int = Field(3, ge=1)
    waves: int = Field(0, ge=0)
    wave_scale: float = Field(1.0, gt=0.0)
    minibatch: int = Field(0, ge=0)
    spectral: bool = False
    noise: float = Field(0.0, ge=0.0)
    label: int = Field(32, ge=1)
    label_at: Literal["head", "input"] = "head"


class Network(Discriminator):
    """Creates the discriminator.

    Arguments:
        config: its options.
        space: images or points.
    """

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        self.noise = config.noise
        joined = space.classes if config.label_at == "input" else 0
        self.planes = LabelPlanes(joined) if joined else None
        inputs = space.size + joined
        self.waves = FourierFeatures(inputs, config.waves, config.wave_scale) if config.waves else nn.Identity()
        widths = [inputs + 2 * config.waves, *[config.width] * config.depth]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.feature_count = config.width + config.minibatch
        self.minibatch = MinibatchFeatures(config.width, config.minibatch) if config.minibatch else nn.Identity()
        self.head = ProjectedLogit(self.feature_count, 0 if joined else space.classes, config.label)
        if config.spectral:
            spectrally_normalised(self)

    def features(self, x: Tensor) -> Tensor:
        """Returns the last layer's features."""
        h = self.waves(x.flatten(1))
        for layer in self.layers:
            h = h + self.noise * torch.randn_like(h) if self.noise and self.training else h
            h = F.leaky_relu(layer(h), 0.2)
        return self.minibatch(h)
