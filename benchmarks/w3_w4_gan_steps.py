"""W3 and W4: a DCGAN step at 64x64 and the steps of penalised critics at 32x32, batch 64, beside plain loops.

    python benchmarks/w3_w4_gan_steps.py [--rounds 5]

Ours is a turn of the training loop with all that it does (feed, keyed noise, guards, bookkeeping) in the default that
``--device cpu`` picks; the plain loops are the DCGAN tutorial's and a textbook double backward, in float32, on networks
of the same layers, widths and sizes. Timed in turn. Writes ``benchmarks/results/w3_w4_gan_steps.json``.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import reverie
from reverie.core.batch import Batch, Condition
from reverie.core.device import has_fast_bf16
from reverie.core.space import Space
from reverie.nn.bottleneck import Shrink
from reverie.training.config import TrainConfig
from reverie.training.loop import Loop
from reverie.training.ranks import Ranks

RESULTS = Path(__file__).with_name("results") / "w3_w4_gan_steps.json"
BATCH = 64


class Constant:
    """A feed that gives the same rows: reading is measured elsewhere (``data.py``)."""

    def __init__(self, space: Space) -> None:
        self.x = torch.rand(BATCH, *space.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def batch(self, first: int, count: int) -> Batch:
        ids = torch.arange(first, first + count)
        return Batch(self.x[:count], Condition(), ids, ids)


def loop_of(recipe: str, space: Space, changes: dict[str, Any] | None = None) -> Loop:
    torch.manual_seed(0)
    model = reverie.create(recipe, space, changes=changes or {})
    return Loop(model, Constant(space), TrainConfig(batch=BATCH, steps=10**6), Ranks(torch.device("cpu")))


def tutorial(space: Space) -> Callable[[], None]:
    """The loop of PyTorch's DCGAN tutorial, with networks of its widths."""
    torch.manual_seed(0)
    w = 64

    def up(a: int, b: int, stride: int, pad: int) -> list[nn.Module]:
        return [nn.ConvTranspose2d(a, b, 4, stride, pad, bias=False), nn.BatchNorm2d(b), nn.ReLU(True)]

    def down(a: int, b: int) -> list[nn.Module]:
        return [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2, True)]

    stages = [*up(100, 8 * w, 1, 0), *up(8 * w, 4 * w, 2, 1), *up(4 * w, 2 * w, 2, 1), *up(2 * w, w, 2, 1)]
    generator = nn.Sequential(*stages, nn.ConvTranspose2d(w, 3, 4, 2, 1, bias=False), nn.Tanh())
    first = [nn.Conv2d(3, w, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True)]
    critic = nn.Sequential(
        *first,
        *down(w, 2 * w),
        *down(2 * w, 4 * w),
        *down(4 * w, 8 * w),
        nn.Conv2d(8 * w, 1, 4, bias=False),
        nn.Sigmoid(),
    )
    steps_d = torch.optim.Adam(critic.parameters(), lr=2e-4, betas=(0.5, 0.999))
    steps_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    criterion, real = nn.BCELoss(), Constant(space).x

    def step() -> None:
        critic.zero_grad()
        ones, zeros = torch.ones(BATCH), torch.zeros(BATCH)
        criterion(critic(real).view(-1), ones).backward()
        fake = generator(torch.randn(BATCH, 100, 1, 1))
        criterion(critic(fake.detach()).view(-1), zeros).backward()
        steps_d.step()
        generator.zero_grad()
        criterion(critic(fake).view(-1), ones).backward()
        steps_g.step()

    return step


class PlainBlock(nn.Module):
    """R3GAN's residual block with torch's own layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, 2 * channels, 1)
        self.mix = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels // 16)
        self.reduce = nn.Conv2d(2 * channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.reduce(F.leaky_relu(self.mix(F.leaky_relu(self.expand(x), 0.2)), 0.2))


class PlainCritic(nn.Module):
    """R3GAN's discriminator of 64 to 256 channels with torch's own layers."""

    def __init__(self, widths: tuple[int, ...] = (64, 128, 256, 256)) -> None:
        super().__init__()
        self.start = nn.Conv2d(3, widths[0], 1, bias=False)
        self.blocks = nn.ModuleList(PlainBlock(w) for w in widths)
        self.changes = nn.ModuleList(
            nn.Conv2d(a, b, 1, bias=False) if a != b else nn.Identity() for a, b in pairwise(widths)
        )
        self.shrink = Shrink()
        self.basis = nn.Parameter(torch.randn(widths[-1], 4, 4) / 4)
        self.logit = nn.Linear(widths[-1], 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks[0](self.start(x))
        kernel = self.shrink.kernel
        for change, block in zip(self.changes, self.blocks[1:], strict=True):
            small = F.conv2d(F.pad(x, (1, 1, 1, 1)), kernel.expand(x.shape[1], 1, 4, 4), stride=2, groups=x.shape[1])
            x = block(change(small))
        logits: Tensor = self.logit((x * self.basis).sum((2, 3)))[:, 0]
        return logits


def plain_penalised(space: Space, kind: str) -> Callable[[], None]:
    """A critic's turn by the textbook: fakes without gradients, logits, a gradient with its graph, backward."""
    torch.manual_seed(0)
    critic, real = PlainCritic(), Constant(space).x
    generator = loop_of("r3gan", space).model.generator
    optimizer = torch.optim.Adam(critic.parameters(), lr=2e-4, betas=(0.0, 0.9))

    def slope(logits: Tensor, points: Tensor) -> Tensor:
        return torch.autograd.grad(logits.sum(), points, create_graph=True)[0].flatten(1)

    def step() -> None:
        with torch.no_grad():
            fake = generator(torch.randn(BATCH, 64), None)
        if kind == "gradient-penalty":
            share = torch.rand(BATCH, 1, 1, 1)
            between = (share * real + (1 - share) * fake).requires_grad_()
            loss = critic(fake).mean() - critic(real).mean()
            loss = loss + 10.0 * (slope(critic(between), between).norm(dim=1) - 1.0).square().mean()
        else:
            x, y = real.clone().requires_grad_(), fake.clone().requires_grad_()
            one, two = critic(x), critic(y)
            penalty = slope(one, x).square().sum(1).mean() + slope(two, y).square().sum(1).mean()
            loss = F.softplus(two - one).mean() + 0.5 * penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def critic_turn(space: Space, kind: str) -> Callable[[], None]:
    """Our loop's turn of the discriminator alone."""
    wide = {"image": {"name": "r3gan", "width": 64, "max_width": 256, "expansion": 2, "group": 16, "blocks": 1}}
    changes: dict[str, Any] = {"model.discriminator": wide, "model.generator": wide, "model.latent": 64}
    if kind == "gradient-penalty":
        changes |= {"model.objective": "wasserstein", "model.penalties": {"gradient-penalty": 10.0}}
    loop = loop_of("r3gan", space, changes)
    seat = loop.seats[0]

    def step() -> None:
        loop._take_turn(seat, 1, {})  # a later turn of a round: its fakes are made without a graph

    return step


def compare(plain: Callable[[], None], ours: Callable[[], Any], rounds: int) -> dict[str, float]:
    pairs = []
    plain(), ours()
    for _ in range(rounds):
        times = []
        for work in (plain, ours):
            begun = time.perf_counter()
            work()
            times.append(time.perf_counter() - begun)
        pairs.append(times)
    ratio = statistics.median(a / b for a, b in pairs)
    return {
        "plain_ms": 1e3 * statistics.median(a for a, _ in pairs),
        "ours_ms": 1e3 * statistics.median(b for _, b in pairs),
        "times_as_fast": ratio,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    large, small = Space((3, 64, 64)), Space((3, 32, 32))
    precision = "bf16" if has_fast_bf16(torch.device("cpu")) else "fp32"
    found: dict[str, Any] = {
        "processor": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {precision}",
        "threads": torch.get_num_threads(),
    }
    found["W3 DCGAN"] = compare(tutorial(large), loop_of("dcgan", large).play_round, rounds)
    for name, kind in (("W4 gradient penalty", "gradient-penalty"), ("W4 R1 + R2", "r1-r2")):
        found[name] = compare(plain_penalised(small, kind), critic_turn(small, kind), rounds)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
