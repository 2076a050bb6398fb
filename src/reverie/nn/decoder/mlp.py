"""A fully connected decoder, for rows of any shape.

References:
    | Auto-Encoding Variational Bayes (Kingma and Welling, 2013), Appendix C
    | https://arxiv.org/abs/1312.6114
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reverie.core.batch import Condition
from reverie.core.space import Space
from reverie.core.strict import Strict
from reverie.nn.label import LabelVector


class Config(Strict):
    """The decoder's size.

    Arguments:
        hidden: the widths of the hidden layers; with none the map is linear.
    """

    hidden: tuple[int, ...] = (128, 128)


class Network(nn.Module):
    """Creates a fully connected decoder.

    Arguments:
        config: its size.
        space: what one row is.
        latent: the length of z.
        outputs: the number of parameters of each value.
    """

    def __init__(self, config: Config, space: Space, *, latent: int, outputs: int) -> None:
        super().__init__()
        self.shape = (outputs, *space.shape)
        self.label = LabelVector(space.classes, 16)
        widths = (latent + self.label.width, *config.hidden)
        layers: list[nn.Module] = []
        for inputs, width in zip(widths, config.hidden, strict=False):
            layers += [nn.Linear(inputs, width), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], outputs * space.size))

    def forward(self, z: Tensor, condition: Condition | None = None) -> Tensor:
        label = self.label(condition, len(z), z.device)
        y: Tensor = self.layers(torch.cat([z, label], dim=1))
        return y.float().unflatten(1, self.shape)  # [B, outputs, *shape]
