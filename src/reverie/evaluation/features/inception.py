r"""InceptionV3 as the Fréchet Inception Distance uses it: the network of 2015, with the pooling of its TensorFlow port.

It differs from the published InceptionV3 in three ways: average pools inside the blocks do not count padding, the last
block pools by the maximum, and there are 1008 logits. Features are the 2048 averages before the last layer.

References:
    | Rethinking the Inception Architecture for Computer Vision (Szegedy et al., 2016), Section 6
    | https://arxiv.org/abs/1512.00567
    | GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (Heusel et al., 2017)
    | https://arxiv.org/abs/1706.08500
"""

from __future__ import annotations

import hashlib
import urllib.request
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from reverie.core.errors import RequestError
from reverie.data.cache import publish

Side = int | tuple[int, int]
FEATURES = 2048
SIDE = 299
PUBLISHED = "pt_inception-2015-12-05-6726825d.pth"
ADDRESS = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{PUBLISHED}"
SHA256 = "6726825d"  # the first digits, which the file's name carries


class Unit(nn.Module):
    """Creates a convolution without bias, batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Side, stride: int = 1, padding: Side = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _maximum(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 1, 1)


class BlockA(nn.Module):
    """Creates a 35 x 35 block: 1x1, 5x5, two 3x3, and a pool."""

    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Unit(inputs, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = Unit(inputs, 48, 1), Unit(48, 64, 5, padding=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Unit(inputs, 64, 1), Unit(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Unit(96, 96, 3, padding=1)
        self.branch_pool = Unit(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        five = self.branch5x5_2(self.branch5x5_1(x))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(_average(x))], 1)


class BlockB(nn.Module):
    """Creates the step from 35 x 35 to 17 x 17."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = Unit(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Unit(inputs, 64, 1), Unit(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Unit(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, 2)], 1)


class BlockC(nn.Module):
    """Creates a 17 x 17 block of 7x1 and 1x7 convolutions."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        across: tuple[tuple[int, int], tuple[int, int]] = ((1, 7), (0, 3))
        down: tuple[tuple[int, int], tuple[int, int]] = ((7, 1), (3, 0))
        self.branch1x1 = Unit(inputs, 192, 1)
        self.branch7x7_1 = Unit(inputs, width, 1)
        self.branch7x7_2 = Unit(width, width, across[0], padding=across[1])
        self.branch7x7_3 = Unit(width, 192, down[0], padding=down[1])
        self.branch7x7dbl_1 = Unit(inputs, width, 1)
        self.branch7x7dbl_2 = Unit(width, width, down[0], padding=down[1])
        self.branch7x7dbl_3 = Unit(width, width, across[0], padding=across[1])
        self.branch7x7dbl_4 = Unit(width, width, down[0], padding=down[1])
        self.branch7x7dbl_5 = Unit(width, 192, across[0], padding=across[1])
        self.branch_pool = Unit(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(_average(x))], 1)


class BlockD(nn.Module):
    """Creates the step from 17 x 17 to 8 x 8."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = Unit(inputs, 192, 1), Unit(192, 320, 3, stride=2)
        self.branch7x7x3_1, self.branch7x7x3_2 = Unit(inputs, 192, 1), Unit(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3, self.branch7x7x3_4 = Unit(192, 192, (7, 1), padding=(3, 0)), Unit(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, 2)], 1)


class BlockE(nn.Module):
    """Creates an 8 x 8 block, whose pool is an average or, in the last one, a maximum."""

    def __init__(self, inputs: int, last: bool) -> None:
        super().__init__()
        self.pool = _maximum if last else _average
        self.branch1x1 = Unit(inputs, 320, 1)
        self.branch3x3_1 = Unit(inputs, 384, 1)
        self.branch3x3_2a, self.branch3x3_2b = _crossed(384)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Unit(inputs, 448, 1), Unit(448, 384, 3, padding=1)
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = _crossed(384)
        self.branch_pool = Unit(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        three = torch.cat([self.branch3x3_2a(three), self.branch3x3_2b(three)], 1)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        double = torch.cat([self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)], 1)
        return torch.cat([self.branch1x1(x), three, double, self.branch_pool(self.pool(x))], 1)


def _crossed(width: int) -> tuple[Unit, Unit]:
    return Unit(width, width, (1, 3), padding=(0, 1)), Unit(width, width, (3, 1), padding=(1, 0))


class Inception(nn.Module):
    """Creates the network; its weights' names are those of the published file."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Unit(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Unit(32, 32, 3)
        self.Conv2d_2b_3x3 = Unit(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Unit(64, 80, 1)
        self.Conv2d_4a_3x3 = Unit(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = BlockA(192, 32), BlockA(256, 64), BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b, self.Mixed_6c = BlockC(768, 128), BlockC(768, 160)
        self.Mixed_6d, self.Mixed_6e = BlockC(768, 160), BlockC(768, 192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b, self.Mixed_7c = BlockE(1280, last=False), BlockE(2048, last=True)
        self.fc = nn.Linear(FEATURES, 1008)

    def features(self, x: Tensor) -> Tensor:
        """Returns features ``[B, 2048]`` of images ``[B, 3, 299, 299]``, scaled as ``scaled`` does."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, 2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits ``[B, 1008]``, the last layer's bias left out, as the Inception Score has them."""
        return self.features(x) @ self.fc.weight.T


def scaled(x: Tensor) -> Tensor:
    """Images in [-1, 1] as the network was trained on them: bytes b as (b - 128) / 128."""
    return ((x + 1.0) * 127.5 - 128.0) / 128.0


def load_inception(path: str, cache: Path) -> Inception:
    """The network with the published weights.

    Arguments:
        path: a ``.pth`` or ``.safetensors`` file of them; empty to take them from the cache, or to download them there.
        cache: the folder of downloads.

    Raises:
        RequestError: there is no such file, it holds something else, or it cannot be downloaded.
    """
    file = Path(path) if path else _published(cache / "inception")
    if not file.is_file():
        raise RequestError(f"no file {file}; --features inception:PATH names the published {PUBLISHED}")
    try:
        if file.suffix == ".safetensors":
            weights = load_file(file)
        else:  # nothing but tensors is read from it
            weights = torch.load(file, map_location="cpu", weights_only=True)
        network = Inception()
        network.load_state_dict({k: v for k, v in weights.items() if not k.startswith("AuxLogits.")}, strict=True)
    except Exception as error:
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise RequestError(f"{file} does not hold the weights of FID's InceptionV3 ({line})") from error
    return network.eval().requires_grad_(False)


def _published(folder: Path) -> Path:
    file = folder / PUBLISHED
    if file.is_file():
        return file
    try:
        with urllib.request.urlopen(ADDRESS, timeout=30) as answer:  # a fixed https address
            content: bytes = answer.read()
    except OSError as error:
        raise RequestError(
            f"cannot download InceptionV3's weights ({error}); give their file: --features inception:PATH"
        ) from error
    if not hashlib.sha256(content).hexdigest().startswith(SHA256):
        raise RequestError(f"what was downloaded is not {PUBLISHED}: its hash differs; give the file's path instead")
    with publish(folder) as unfinished:
        (unfinished / PUBLISHED).write_bytes(content)
    return file
