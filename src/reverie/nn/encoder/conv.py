r"""A convolutional encoder for images of any size: a pyramid of residual blocks, then one linear map.

.. math:: (B, C, H, W) \to (B, width, H/2, W/2) \to (B, 2 width, H/4, W/4) \to \dots \to (B, outputs)

References:
    | Auto-Encoding Variational Bayes (Kingma and Welling, 2013)
    | https://arxiv.org/abs/1312.6114
    | Deep Residual Learning for Image Recognition (He, Zhang, Ren and Sun, 2015)
    | https://arxiv.org/abs/1512.03385
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
    """The encoder's size.

    Arguments:
        width: channels of the first level; each further one has twice as many, up to ``widest``.
        widest: the most channels a level may have.
        blocks: residual blocks a level.
        stop: the side, in pixels, at which halving stops.
    """

    width: int = Field(32, ge=1)
    widest: int = Field(256, ge=1)
    blocks: int = Field(1, ge=0)
    stop: int = Field(8, ge=1)


class Network(nn.Module):
    """Creates a convolutional encoder.

    Arguments:
        config: its size.
        space: images ``(C, H, W)``.
        outputs: the number of features.
    """

    def __init__(self, config: Config, space: Space, *, outputs: int) -> None:
        super().__init__()
        channels, height, width = space.image("conv")
        sizes = halvings(height, width, config.stop)
        layers: list[nn.Module] = []
        for level in range(len(sizes) - 1):
            wider = min(config.width * 2**level, config.widest)
            # 4x4 at stride 2 sees every pixel equally often; odd sides round up as in ``halvings``.
            layers += [nn.ReLU()] if level else []
            layers += [nn.ZeroPad2d((1, 1 + sizes[level][1] % 2, 1, 1 + sizes[level][0] % 2))]
            layers += [nn.Conv2d(channels, wider, 4, stride=2)]
            layers += [PlainResidual(wider) for _ in range(config.blocks)]
            channels = wider
        self.pyramid = nn.Sequential(*layers)
        self.label = LabelVector(space.classes, 32)
        features = channels * sizes[-1][0] * sizes[-1][1]
        self.out = nn.Linear(features + self.label.width, outputs)

    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        h = F.relu(self.pyramid(x)).flatten(1)  # [B, channels * h * w]
        label = self.label(condition, len(h), h.device).to(h.dtype)
        with torch.autocast(h.device.type, enabled=False):  # the posterior's log sigma needs more than 8 bits
            y: Tensor = self.out(torch.cat([h, label], dim=1).float())
        return y
