"""The U-Nets of other libraries at W1's sizes, ours with the same widths, depth and attention, and a process of its
own for each peer.

The libraries come with the extra ``bench`` (``pip install '.[bench]'``) or from a folder given as ``--peers``.
denoising-diffusion-pytorch imports torchvision, which does not load beside a CPU build of torch: where it is
missing, empty modules of that name stand in for it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from reverie.core.space import Space
from reverie.nn.denoiser.unet import Config

SPACE = Space((3, 32, 32))


class Peer(NamedTuple):
    """A peer's network, how it is called with times in [0, 1], and its own DDIM: (images, steps) to images."""

    net: nn.Module
    call: Callable[[nn.Module, Tensor, Tensor], Tensor]
    draw: Callable[[int, int], object]


def diffusers() -> Peer:
    from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

    torch.manual_seed(0)
    net = UNet2DModel(
        sample_size=32,
        block_out_channels=(64, 128, 128),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )
    pipeline = DDIMPipeline(net, DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    return Peer(
        net,
        lambda net, x, t: net(x, 1000 * t).sample,
        lambda count, steps: pipeline(batch_size=count, num_inference_steps=steps, output_type="np"),
    )


def azula() -> Peer:
    from azula.denoise import KarrasDenoiser
    from azula.nn.layers import SineEncoding
    from azula.nn.unet import UNet
    from azula.noise import VPSchedule
    from azula.sample import DDIMSampler

    class Timed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.time = nn.Sequential(SineEncoding(256), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 256))
            self.unet = UNet(3, 3, hid_channels=(64, 128, 128), hid_blocks=(2, 2, 2), mod_features=256)

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return self.unet(x, self.time(t))

    torch.manual_seed(0)
    net = Timed()

    @torch.no_grad()
    def draw(count: int, steps: int) -> Tensor:
        sampler = DDIMSampler(KarrasDenoiser(net, VPSchedule()), steps=steps, silent=True)
        return sampler(sampler.init((count, *SPACE.shape)))

    return Peer(net, lambda net, x, t: net(x, t), draw)


def without_torchvision() -> None:
    """Lets denoising-diffusion-pytorch load where torchvision is missing."""
    if importlib.util.find_spec("torchvision") is None:
        stub = ModuleType("torchvision")
        for part in ("transforms", "utils", "datasets"):
            setattr(stub, part, ModuleType(f"torchvision.{part}"))
            sys.modules[f"torchvision.{part}"] = getattr(stub, part)
        sys.modules["torchvision"] = stub


def denoising_diffusion_pytorch() -> Peer:
    without_torchvision()
    from denoising_diffusion_pytorch.denoising_diffusion_pytorch import GaussianDiffusion, Unet

    torch.manual_seed(0)
    # Its default: full attention at the lowest resolution, linear attention above.
    net = Unet(64, dim_mults=(1, 2, 2))
    return Peer(
        net,
        lambda net, x, t: net(x, 1000 * t),
        lambda count, steps: GaussianDiffusion(net, image_size=32, sampling_timesteps=steps).sample(count),
    )


PEERS: dict[str, Callable[[], Peer]] = {
    "diffusers": diffusers,
    "azula": azula,
    "denoising-diffusion-pytorch": denoising_diffusion_pytorch,
}
SIZES: dict[str, Any] = {"patch": 1, "width": 64, "multipliers": (1, 2, 2), "blocks": 2}
OURS = {
    "diffusers": Config(**SIZES, blocks_up=None, attention=(16,), head_width=8),
    "azula": Config(**SIZES, blocks_up=2, middle_attention=False),
    # We have no linear attention: ours attends fully at 16 x 16, which is more arithmetic.
    "denoising-diffusion-pytorch": Config(**SIZES, blocks_up=2, attention=(16,), head_width=32),
}


class Apart:
    """Creates work in a process of its own, so that a peer runs as it does for its users: with none of our settings.

    Arguments:
        build: a function at the top of a module; returns what is told here as ``about``, and the work.
        arguments: of that function.
        folder: of packages, if they are not installed.
        threads: of the process.
    """

    def __init__(self, build: Callable[..., Any], arguments: tuple[Any, ...], folder: str | None, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        context.Process(target=serve, args=(other, build, arguments, folder, threads), daemon=True).start()
        other.close()
        self.about: dict[str, Any] = self.pipe.recv()

    def __call__(self) -> float:
        """Does the work once; returns the seconds it took."""
        self.pipe.send(True)
        return float(self.pipe.recv())


def serve(pipe: Any, build: Callable[..., Any], arguments: tuple[Any, ...], folder: str | None, threads: int) -> None:
    """What the other process does: the work, as often as it is asked for."""
    if folder:
        sys.path.append(folder)
    torch.set_num_threads(threads)
    about, work = build(*arguments)
    pipe.send(about)
    with contextlib.suppress(EOFError):  # who asked is done
        while pipe.recv():
            start = time.perf_counter()
            work()
            pipe.send(time.perf_counter() - start)


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
