"""A fully connected encoder, for rows of any shape.

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
    """The encoder's size.

    Arguments:
        hidden: the widths of the hidden layers; with none the map is linear.
    """

    hidden: tuple[int, ...] = (128, 128)


class Network(nn.Module):
    """Creates a fully connected encoder.

    Arguments:
        config: its size.
        space: what one row is.
        outputs: the number of features.
    """

    def __init__(self, config: Config, space: Space, *, outputs: int) -> None:
        super().__init__()
        self.label = LabelVector(space.classes, 16)
        widths = (space.size + self.label.width, *config.hidden)
        layers: list[nn.Module] = []
        for inputs, width in zip(widths, config.hidden, strict=False):
            layers += [nn.Linear(inputs, width), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], outputs))

    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        label = self.label(condition, len(x), x.device)
        y: Tensor = self.layers(torch.cat([x.flatten(1), label], dim=1))
        return y.float()
