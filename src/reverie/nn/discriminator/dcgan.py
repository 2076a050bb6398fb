r"""DCGAN's discriminator: strided convolutions down to one logit.

References:
    | Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks
    | (Radford, Metz and Chintala, 2016), Section 3
    | https://arxiv.org/abs/1511.06434
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reverie.core.space import Space
from reverie.core.strict import Strict
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
        norm: batch norm, or none.
        minibatch: how many features of a row's closeness to its batch are added (minibatch discrimination).
        spectral: spectral norm, which holds each layer's greatest singular value at one.
        label: the length of a label's vector.
        label_at: where labels come in: ``head``, as an inner product with the features, or ``input``, concatenated.
    """

    width: int = Field(64, ge=1)
    max_width: int = Field(512, ge=1)
    stop: int = Field(4, ge=1)
    norm: bool = True
    minibatch: int = Field(0, ge=0)
    spectral: bool = False
    label: int = Field(32, ge=1)
    label_at: Literal["head", "input"] = "head"


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
        channels, height, width = space.shape
        self.sizes = halvings(height, width, config.stop)
        steps = max(len(self.sizes) - 1, 1)
        self.stride = stride = 2 if len(self.sizes) > 1 else 1
        widths = [channels + joined, *(min(config.width * 2**i, config.max_width) for i in range(steps))]
        self.layers = nn.ModuleList()
        self.norms = nn.ModuleList()
        for i in range(steps):
            norm = config.norm and i > 0
            self.layers.append(Convolution(widths[i], widths[i + 1], 2 + stride, stride, 1, bias=not norm))
            self.norms.append(nn.BatchNorm2d(widths[i + 1]) if norm else nn.Identity())
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
            x = F.leaky_relu(norm(layer(x)), 0.2)
        return self.minibatch(x.flatten(1))
