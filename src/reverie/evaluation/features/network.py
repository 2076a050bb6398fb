"""The small convolutional network behind features: trained on labels, or left as it was drawn."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES = 128


class FeatureNetwork(nn.Module):
    """Creates a stride-2 pyramid down to at most 7 pixels, one hidden layer of features, and class logits.

    Arguments:
        channels: of the images.
        size: their longer side, in pixels.
        classes: how many logits; 0 for none.
    """

    def __init__(self, channels: int, size: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        while size > 64:  # what tells large images apart is seen at 64 pixels, at a fraction of the price
            layers, size = [*layers, nn.AvgPool2d(2)], size // 2
        width = 32
        while size > 7:
            layers += [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels, width, size = width, min(2 * width, 128), size // 2
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        self.pyramid = nn.Sequential(*layers)
        self.hidden = nn.Linear(width * 4, FEATURES)
        self.out = nn.Linear(FEATURES, classes) if classes else None

    def features(self, x: Tensor) -> Tensor:
        """Returns features ``[B, 128]`` of images in [-1, 1]."""
        h = F.adaptive_avg_pool2d(self.pyramid(x.contiguous(memory_format=torch.channels_last)), 2).flatten(1)
        return F.relu(self.hidden(h))

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits ``[B, classes]``."""
        assert self.out is not None
        logits: Tensor = self.out(self.features(x))
        return logits
