r"""R3GAN's generator: residual bottlenecks without normalisation on a learned basis.

References:
    | The GAN is dead; long live the GAN! A Modern GAN Baseline (Huang et al., 2024), Section 4
    | https://arxiv.org/abs/2501.05441
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from reverie.core.batch import Condition
from reverie.core.space import Space
from reverie.nn import bottleneck
from reverie.nn.bottleneck import Bottleneck, enlarge, scaled
from reverie.nn.convolution import Convolution
from reverie.nn.label import LabelVector


class Config(bottleneck.Config):
    """R3GAN's generator; the options are those of ``reverie.nn.bottleneck``."""


class Network(nn.Module):
    """Creates the generator; its output is linear, not squashed.

    Code (paper): the basis is the learned 4x4 tensor that z scales channel by channel; here it has the size at which
    halving the image stops, at most ``stop`` (28, 14, 7, 4 and 32, 16, 8, 4).

    Arguments:
        config: its options.
        space: images ``(C, H, W)``.
        latent: the length of z.
    """

    def __init__(self, config: Config, space: Space, latent: int) -> None:
        super().__init__()
        channels, height, width = space.image("r3gan")
        sizes, widths = config.stages(height, width)
        sizes, widths = sizes[::-1], widths[::-1]  # coarse to fine
        self.sizes = sizes[1:]
        depth = config.blocks * len(widths)
        self.label = LabelVector(space.classes, config.label)
        self.start = scaled(nn.Linear(latent + self.label.width, widths[0], bias=False))
        self.basis = nn.Parameter(torch.randn(*sizes[0], widths[0]))
        self.changes = nn.ModuleList(
            scaled(Convolution(a, b, 1, bias=False)) if a != b else nn.Identity() for a, b in pairwise(widths)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(Bottleneck(width, config, depth) for _ in range(config.blocks))) for width in widths
        )
        self.finish = scaled(Convolution(widths[-1], channels, 1, bias=False))

    def forward(self, z: Tensor, condition: Condition | None = None) -> Tensor:
        """Returns images ``[B, C, H, W]`` for z ``[B, latent]``, near [-1, 1] once trained."""
        z = torch.cat([z, self.label(condition, len(z), z.device)], dim=1)
        x = self.start(z)[:, None, None, :] * self.basis  # [B, H, W, C]
        x = self.stages[0](x.permute(0, 3, 1, 2))
        for change, stage, size in zip(self.changes, self.stages[1:], self.sizes, strict=True):
            x = stage(enlarge(change(x), size))
        image: Tensor = self.finish(x)
        return image.float()
