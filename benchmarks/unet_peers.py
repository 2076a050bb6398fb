"""The U-Nets of other libraries at W1's sizes, and ours with the same widths, depth and attention.

The libraries come with the extra ``bench`` (``pip install '.[bench]'``) or from a folder given as ``--peers``.
denoising-diffusion-pytorch imports torchvision, which does not load beside a CPU build of torch: where it is
missing, empty modules of that name stand in for it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reverie.core.space import Space
from reverie.nn.denoiser.unet import Config, Network

SPACE = Space((3, 32, 32))
Forward = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Pair(NamedTuple):
    """A peer's network, how it is called with times in [0, 1], and our options at its widths, depth and attention."""

    name: str
    peer: nn.Module
    call: Forward
    options: Config

    @property
    def ours(self) -> Network:
        torch.manual_seed(0)
        return Network(self.options, SPACE)


def diffusers() -> Pair:
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    peer = UNet2DModel(
        sample_size=32,
        block_out_channels=(64, 128, 128),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )
    options = Config(patch=1, width=64, multipliers=(1, 2, 2), blocks=2, blocks_up=None, attention=(16,), head_width=8)
    return Pair("diffusers", peer, lambda net, x, t: net(x, 1000 * t).sample, options)


def azula() -> Pair:
    from azula.nn.layers import SineEncoding
    from azula.nn.unet import UNet

    class Timed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.time = nn.Sequential(SineEncoding(256), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 256))
            self.unet = UNet(3, 3, hid_channels=(64, 128, 128), hid_blocks=(2, 2, 2), mod_features=256)

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return self.unet(x, self.time(t))

    torch.manual_seed(0)
    options = Config(patch=1, width=64, multipliers=(1, 2, 2), blocks=2, blocks_up=2, middle_attention=False)
    return Pair("azula", Timed(), lambda net, x, t: net(x, t), options)


def denoising_diffusion_pytorch() -> Pair:
    if importlib.util.find_spec("torchvision") is None:
        stub = ModuleType("torchvision")
        for part in ("transforms", "utils", "datasets"):
            setattr(stub, part, ModuleType(f"torchvision.{part}"))
            sys.modules[f"torchvision.{part}"] = getattr(stub, part)
        sys.modules["torchvision"] = stub
    from denoising_diffusion_pytorch.denoising_diffusion_pytorch import Unet

    torch.manual_seed(0)
    # Its default: full attention at the lowest resolution, linear attention above.
    peer = Unet(64, dim_mults=(1, 2, 2))
    # We have no linear attention: ours attends fully at 16 x 16, which is more arithmetic.
    options = Config(patch=1, width=64, multipliers=(1, 2, 2), blocks=2, blocks_up=2, attention=(16,), head_width=32)
    return Pair("denoising-diffusion-pytorch", peer, lambda net, x, t: net(x, 1000 * t), options)


def pairs() -> Iterator[Pair]:
    # diffusers looks for torchvision when it is imported, so it comes before the stub.
    yield diffusers()
    yield azula()
    yield denoising_diffusion_pytorch()


def parameters(net: nn.Module) -> float:
    """Millions of parameters."""
    return sum(p.numel() for p in net.parameters()) / 1e6


def machine() -> dict[str, object]:
    """What a result was measured on."""
    flags = {
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        "amx": torch.cpu._is_amx_tile_supported(),
    }
    return {
        "processor": torch.backends.cpu.get_cpu_capability(),
        **flags,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
