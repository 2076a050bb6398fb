"""The diffusion transformers of other libraries, and ours with the same patches, width, depth and heads.

Of denoising-diffusion-pytorch there is none for images. azula's blocks have one modulation for attention and
perceptron and turn queries and keys by their places; those of diffusers, and ours, are those of the paper.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from unet_peers import SPACE, Peer

from reverie.nn.denoiser.dit import Config

PATCH, WIDTH, DEPTH, HEADS = 2, 256, 6, 8


def diffusers() -> Peer:
    from diffusers import DDIMScheduler, DiTTransformer2DModel

    torch.manual_seed(0)
    net = DiTTransformer2DModel(
        num_attention_heads=HEADS,
        attention_head_dim=WIDTH // HEADS,
        in_channels=3,
        num_layers=DEPTH,
        sample_size=32,
        patch_size=PATCH,
        num_embeds_ada_norm=10,
    )
    scheduler = DDIMScheduler()

    def call(net: nn.Module, x: Tensor, t: Tensor) -> Tensor:
        labels = torch.zeros(len(x), dtype=torch.int64)
        return net(x, timestep=(999 * t).long(), class_labels=labels).sample

    @torch.no_grad()
    def draw(count: int, steps: int) -> Tensor:
        scheduler.set_timesteps(steps)
        x = torch.randn(count, *SPACE.shape)
        for t in scheduler.timesteps:  # as in its pipelines; that of transformers wants an autoencoder
            x = scheduler.step(call(net.eval(), x, (t / 999).expand(count)), t, x).prev_sample
        return x

    return Peer(net, call, draw)


def azula() -> Peer:
    from azula.denoise import KarrasDenoiser
    from azula.nn.layers import SineEncoding
    from azula.nn.vit import ViT
    from azula.noise import VPSchedule
    from azula.sample import DDIMSampler

    class Timed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.time = nn.Sequential(SineEncoding(WIDTH), nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
            self.vit = ViT(
                3,
                3,
                mod_features=WIDTH,
                hid_channels=WIDTH,
                hid_blocks=DEPTH,
                patch_size=PATCH,
                attention_heads=HEADS,
            )

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return self.vit(x, self.time(t))

    torch.manual_seed(0)
    net = Timed()

    @torch.no_grad()
    def draw(count: int, steps: int) -> Tensor:
        sampler = DDIMSampler(KarrasDenoiser(net, VPSchedule()), steps=steps, silent=True)
        return sampler(sampler.init((count, *SPACE.shape)))

    return Peer(net, lambda net, x, t: net(x, t), draw)


PEERS: dict[str, Callable[[], Peer]] = {"diffusers": diffusers, "azula": azula}
SIZES = Config(patch=PATCH, width=WIDTH, depth=DEPTH, head_width=WIDTH // HEADS)
OURS = {"diffusers": SIZES, "azula": SIZES}
