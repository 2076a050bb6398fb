"""From a discriminator's features to its logit."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from reverie.core.batch import Condition
from reverie.nn.label import LabelVector


class ProjectedLogit(nn.Module):
    r"""Creates a discriminator's last layer, which sees the label by an inner product with the features.

    .. math:: D(x, y) = w^\top h(x) + v_y^\top U h(x) / \sqrt{d}

    Without labels the first term remains. There is no bias: a game of pairs would never see it.

    Arguments:
        features: the length of h.
        classes: how many labels there are.
        width: d, the length of :math:`v_y`.

    References:
        | cGANs with Projection Discriminator (Miyato and Koyama, 2018), Equation 3
        | https://arxiv.org/abs/1802.05637
    """

    def __init__(self, features: int, classes: int, width: int) -> None:
        super().__init__()
        self.logit = nn.Linear(features, 1, bias=False)
        self.project = nn.Linear(features, width, bias=False) if classes else None
        self.label = LabelVector(classes, width)
        self.scale = 1.0 / math.sqrt(width)

    def forward(self, h: Tensor, condition: Condition | None) -> Tensor:
        """Returns float32 logits ``[B]`` for features ``[B, features]``: differences of logits need the digits."""
        with torch.autocast(h.device.type, enabled=False):
            h = h.float()
            logits: Tensor = self.logit(h)[:, 0]
            if self.project is not None:
                label = self.label(condition, len(h), h.device)
                logits = logits + self.scale * (self.project(h) * label).sum(1)
            return logits
