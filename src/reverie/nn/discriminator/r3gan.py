r"""R3GAN's discriminator, the mirror of its generator.

References:
    | The GAN is dead; long live the GAN! A Modern GAN Baseline (Huang et al., 2024), Section 4
    | https://arxiv.org/abs/2501.05441
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.core.space import Space
from reverie.nn import bottleneck
from reverie.nn.bottleneck import Bottleneck, Shrink, scaled
from reverie.nn.convolution import Convolution
from reverie.nn.discrimination import Discriminator
from reverie.nn.projection import ProjectedLogit


class Config(bottleneck.Config):
    """R3GAN's discriminator; the other options are those of ``reverie.nn.bottleneck``.

    Arguments:
        stem: by how much the first layer shrinks the image. The paper has 1, a 1x1 convolution; 2 is a 4x4 convolution
            of stride 2, which leaves out the dearest stage, dearest of all under the penalties.
    """

    stem: Literal[1, 2] = 1


class Network(Discriminator):
    """Creates the discriminator: residual stages, shrunk in between, then one weight for each place of each channel.

    Arguments:
        config: its options.
        space: images ``(C, H, W)``.
    """

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        channels, height, width = space.image("r3gan")
        sizes, widths = config.stages(-(-height // config.stem), -(-width // config.stem))
        depth = config.blocks * len(widths)
        self.stem = config.stem
        shape = (1, 1, 0) if config.stem == 1 else (4, 2, 1)
        self.start = scaled(Convolution(channels, widths[0], *shape, bias=False))
        self.stages = nn.ModuleList(
            nn.Sequential(*(Bottleneck(width, config, depth) for _ in range(config.blocks))) for width in widths
        )
        self.shrink = Shrink()
        self.changes = nn.ModuleList(
            scaled(Convolution(a, b, 1, bias=False)) if a != b else nn.Identity() for a, b in pairwise(widths)
        )
        # Channels last, here and in the generator: the order of convolutions, which gradients then keep.
        self.basis = nn.Parameter(torch.randn(*sizes[-1], widths[-1]) / math.sqrt(math.prod(sizes[-1])))
        self.feature_count = widths[-1]
        self.head = ProjectedLogit(self.feature_count, space.classes, config.label)
        scaled(self.head.logit)

    def features(self, x: Tensor) -> Tensor:
        """Returns the last layer's features."""
        if self.stem == 2:  # an odd side gets a row or column of zeros, so that halving rounds up
            x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        x = self.stages[0](self.start(x))
        for change, stage in zip(self.changes, self.stages[1:], strict=True):
            x = stage(change(self.shrink(x)))
        return (x.permute(0, 2, 3, 1).float() * self.basis).sum((1, 2))
