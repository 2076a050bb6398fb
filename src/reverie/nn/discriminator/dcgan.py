r"""DCGAN's discriminator: strided convolutions down to one logit.

References:
    | Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks
    | (Radford, Metz and Chintala, 2016), Section 3
    | https://arxiv.org/abs/1511.06434
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor, nn

from reverie.core.space import Space
from reverie.core.strict import Strict
from reverie.nn.activation import Kind, activate, units
from reverie.nn.convolution import Convolution
from reverie.nn.discrimination import Discriminator
from reverie.nn.label import LabelPlanes
from reverie.nn.minibatch import MinibatchFeatures
from reverie.nn.projection import ProjectedLogit
from reverie.nn.residual import halvings
from reverie.nn.spectral import spectrally_normalised


class Config(Strict):
    """DCGAN's discriminator.

    Arguments:
        width: channels after the first layer; doubled at each halving of the size.
        max_width: the most channels anywhere.
        stop: the side, or the next below, at which halving the image stops; the paper has 4 (64, 32, 16, 8, 4).
        norm: ``batch``, ``layer`` (of each row by itself) or ``none``.
        activation: ``relu``, leaky with a slope of 0.2, ``tanh`` or ``gated``.
        minibatch: how many features of a row's closeness to its batch are added (minibatch discrimination).
        spectral: spectral norm, which holds each layer's greatest singular value at one.
        label: the length of a label's vector.
        label_at: where labels come in: ``head``, as an inner product with the features, or ``input``, concatenated.
    """

    width: int = Field(64, ge=1)
    max_width: int = Field(512, ge=1)
    stop: int = Field(4, ge=1)
    norm: Literal["batch", "layer", "none"] = "batch"
    activation: Kind = "relu"
    minibatch: int = Field(0, ge=0)
    spectral: bool = False
    label: int = Field(32, ge=1)
    label_at: Literal["head", "input"] = "head"

    @field_validator("norm", mode="before")
    @classmethod
    def _by_name(cls, norm: object) -> object:
        return ("batch" if norm else "none") if isinstance(norm, bool) else norm  # of runs before it had names


class Network(Discriminator):
    """Creates the discriminator: stride-2 4x4 convolutions, batch norm but at the input, leaky ReLU of slope 0.2.

    Arguments:
        config: its options.
        space: images ``(C, H, W)``.
    """

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        joined = space.classes if config.label_at == "input" else 0
        self.planes = LabelPlanes(joined) if joined else None
        channels, height, width = space.image("dcgan")
        self.sizes = halvings(height, width, config.stop)
        steps = max(len(self.sizes) - 1, 1)
        self.stride = stride = 2 if len(self.sizes) > 1 else 1
        widths = [channels + joined, *(min(config.width * 2**i, config.max_width) for i in range(steps))]
        self.activation = config.activation
        self.layers = nn.ModuleList()
        self.norms = nn.ModuleList()
        for i in range(steps):
            normed, given = config.norm != "none" and i > 0, units(config.activation, widths[i + 1])
            self.layers.append(Convolution(widths[i], given, 2 + stride, stride, 1, bias=not normed))
            norm = nn.BatchNorm2d(given) if config.norm == "batch" else nn.GroupNorm(1, given)
            self.norms.append(norm if normed else nn.Identity())
        height, width = self.sizes[-1]
        features = widths[-1] * height * width
        self.feature_count = features + config.minibatch
        self.minibatch = MinibatchFeatures(features, config.minibatch) if config.minibatch else nn.Identity()
        self.head = ProjectedLogit(self.feature_count, 0 if joined else space.classes, config.label)
        for layer in (*self.layers, self.head.logit):
            nn.init.normal_(layer.weight, std=0.02)  # Section 4
        if config.spectral:
            spectrally_normalised(self)

    def features(self, x: Tensor) -> Tensor:
        """Returns the last layer's features."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            # An odd side gets a row or column of zeros, so that halving rounds up.
            x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2)) if self.stride == 2 else x
            x = activate(norm(layer(x)), self.activation, 0.2)
        return self.minibatch(x.flatten(1))
