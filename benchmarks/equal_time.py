"""Quality at equal time: ours, denoising-diffusion-pytorch and torchcfm trained for as long, judged alike.

    python benchmarks/equal_time.py [--data digits emoji] [--only NAME ...] [--time 10m] [--peers FOLDER]

The peers have the defaults of their own examples, scaled to a few million parameters: denoising-diffusion-pytorch those
of its README (its DDIM in 50 steps), torchcfm those of its CIFAR-10 example (Euler's method in 50 steps, with its
averaged or its latest weights, whichever are better). Ours is ``flow-matching`` as ``reverie train`` has it, and
without labels, which the peers do not see either, in its own 12 steps and in 50. Distances are of ``--samples`` samples
to the training rows, in the features that ``reverie evaluate`` picks, and in random ones, which are duller; the floor
is that of as many held-out rows, or training rows where those are too few. Trained runs of ours are judged as they are.
Writes ``benchmarks/results/equal_time.json``, and samples and grids in runs/equal-time.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from unet_peers import machine, parameters, without_torchvision

import reverie
from reverie.core.images import from_bytes, save_grid, to_bytes
from reverie.core.sampling import sample
from reverie.data import DataConfig, open_data
from reverie.data.dataset import Dataset
from reverie.evaluation.features.features import choose_features
from reverie.evaluation.frechet import frechet_estimate
from reverie.evaluation.moments import Moments, training_moments
from reverie.evaluation.subject import shuffled
from reverie.training.config import seconds

ROOT = Path(__file__).resolve().parents[1]
RESULTS, RUNS = ROOT / "benchmarks" / "results" / "equal_time.json", ROOT / "runs" / "equal-time"
STEPS = 50
Draw = Callable[[int], Tensor]


class Trained(NamedTuple):
    """Ways to draw images in [-1, 1], the images seen in training, and the millions of parameters."""

    draws: dict[str, Draw]
    images: int
    size: float


def unlabelled(dataset: Dataset, name: str, budget: float) -> Trained:
    return ours(RUNS / f"{name}-reverie", name, budget, "none")


def labelled(dataset: Dataset, name: str, budget: float) -> Trained:
    return ours(RUNS / f"{name}-reverie-labelled", name, budget, "label")


def ours(out: Path, name: str, budget: float, condition: str) -> Trained:
    changes = {"data.condition": condition}
    run = reverie.train("flow-matching", name, out=out, time=f"{budget:g}", changes=changes)
    model = reverie.load(run)
    images = max(event.get("images", 0) for event in run.journal())
    fifty = model.config.sampling.model_copy(update={"steps": STEPS})
    draws: dict[str, Draw] = {
        "12 steps": lambda count: reverie.sample(model, count, seed=0).x,
        "50 steps": lambda count: sample(model, count, 0, how=fifty).x,
    }
    return Trained(draws, images, parameters(model))


def shown(rows: Tensor, size: int, generator: torch.Generator) -> Tensor:
    return rows[torch.randint(len(rows), (size,), generator=generator)]


def denoising_diffusion_pytorch(dataset: Dataset, name: str, budget: float) -> Trained:
    """README: batches of 32, two accumulated, a rate of 8e-5, an average of 0.995; width 32 in place of 64."""
    without_torchvision()
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet
    from ema_pytorch import EMA

    channels, side = dataset.space.shape[0], dataset.space.shape[-1]
    torch.manual_seed(0)
    net = Unet(dim=32, dim_mults=(1, 2, 4), channels=channels)
    diffusion = GaussianDiffusion(net, image_size=side, timesteps=1000, sampling_timesteps=STEPS)
    optimizer = torch.optim.Adam(diffusion.parameters(), lr=8e-5, betas=(0.9, 0.99))
    average = EMA(diffusion, beta=0.995, update_every=10)
    rows, generator, seen = all_rows(dataset), torch.Generator().manual_seed(0), 0
    begun = time.perf_counter()
    while time.perf_counter() - begun < budget:
        for _ in range(2):
            (diffusion((shown(rows, 32, generator) + 1) / 2) / 2).backward()
        torch.nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update()
        seen += 64
    return Trained({"averaged": in_batches(lambda n: average.ema_model.sample(n) * 2 - 1)}, seen, parameters(net))


def torchcfm(dataset: Dataset, name: str, budget: float) -> Trained:
    """examples/images/cifar10: batches of 128, 2e-4 after a rise of 5,000 steps, an average of 0.9999; width 32."""
    from torchcfm.conditional_flow_matching import ExactOptimalTransportConditionalFlowMatcher
    from torchcfm.models.unet.unet import UNetModelWrapper

    torch.manual_seed(0)
    side = dataset.space.shape[-1]
    net = UNetModelWrapper(
        dim=dataset.space.shape,
        num_res_blocks=2,
        num_channels=32,
        channel_mult=[1, 2, 2, 2] if side % 8 == 0 else [1, 2, 2],
        num_heads=4,
        num_head_channels=64,
        attention_resolutions=str(side // 2),
        dropout=0.1,
    )
    average = copy.deepcopy(net).eval().requires_grad_(False)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(step, 5000) / 5000)
    matcher = ExactOptimalTransportConditionalFlowMatcher(sigma=0.0)
    rows, generator, seen = all_rows(dataset), torch.Generator().manual_seed(0), 0
    begun = time.perf_counter()
    while time.perf_counter() - begun < budget:
        optimizer.zero_grad()
        x_1 = shown(rows, 128, generator)
        t, x_t, u_t = matcher.sample_location_and_conditional_flow(torch.randn_like(x_1), x_1)
        (net(t, x_t) - u_t).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1.0 - 0.9999)
        seen += 128
    shape, latest = dataset.space.shape, net.eval()
    return Trained({"averaged": euler(average, shape), "latest": euler(latest, shape)}, seen, parameters(net))


def euler(net: nn.Module, shape: tuple[int, ...]) -> Draw:
    @torch.no_grad()
    def draw(count: int) -> Tensor:
        x = torch.randn(count, *shape)
        for k in range(STEPS):
            x = x + net(torch.full((count,), k / STEPS), x) / STEPS
        return x.clamp(-1, 1)

    return in_batches(draw)


def in_batches(draw: Draw) -> Draw:
    """The same a few at a time, from the global generator seeded."""

    def whole(count: int) -> Tensor:
        torch.manual_seed(0)
        return torch.cat([draw(len(part)) for part in torch.arange(count).split(250)])

    return whole


def all_rows(dataset: Dataset) -> Tensor:
    return dataset.train.take(shuffled(len(dataset.train)))[0]


SYSTEMS: dict[str, Callable[[Dataset, str, float], Trained]] = {
    "reverie": unlabelled,
    "reverie-labelled": labelled,
    "denoising-diffusion-pytorch": denoising_diffusion_pytorch,
    "torchcfm": torchcfm,
}


class Measure:
    """Creates what judges all: the Fréchet distance to the training rows of a data set."""

    def __init__(self, dataset: Dataset) -> None:
        kinds = {"": choose_features(dataset), "random ": choose_features(dataset, name="random")}
        self.sides = {kind: (features, training_moments(dataset, features)) for kind, features in kinds.items()}

    def __call__(self, x: Tensor) -> dict[str, float]:
        found = {}
        for kind, (features, real) in self.sides.items():
            drawn = torch.cat([features.extract(part) for part in from_bytes(to_bytes(x)).split(256)])
            distance = frechet_estimate(real, Moments(features.size).add(drawn), drawn).distance
            found |= {kind + key: value for key, value in distance._asdict().items()}
        return found


def floor(dataset: Dataset, count: int) -> Tensor:
    """Real rows in place of samples."""
    rows = dataset.held_out if len(dataset.held_out) >= count else dataset.train
    return rows.take(shuffled(len(rows))[:count])[0]


def keep(data: str, name: str, found: dict[str, Any]) -> None:
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    results.setdefault(data, {})[name] = {**found, "machine": machine()}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(data, name, json.dumps(found), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["digits", "emoji"])
    parser.add_argument("--only", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS), metavar="NAME")
    parser.add_argument("--time", default="10m")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--peers", help="a folder of packages: pip install --target FOLDER …")
    asked = parser.parse_args()
    if asked.peers:
        sys.path.append(asked.peers)
    RUNS.mkdir(parents=True, exist_ok=True)
    for data in asked.data:
        dataset = open_data(DataConfig(source=data, condition="none"))
        measure = Measure(dataset)
        keep(data, "floor", measure(floor(dataset, asked.samples)))
        for name in asked.only:
            trained = SYSTEMS[name](dataset, data, seconds(asked.time))
            found = {}
            for weights, draw in trained.draws.items():
                x = draw(asked.samples)
                save_grid(x[:64], RUNS / f"{data}-{name}-{weights}.png", 8, 2)
                np.savez_compressed(RUNS / f"{data}-{name}-{weights}.npz", x=to_bytes(x).numpy())
                found[weights] = measure(x)
            best = min(found.values(), key=lambda figure: figure["value"])
            about = {"images": trained.images, "parameters_M": trained.size, "time": asked.time}
            keep(data, name, {**best, "all": found, **about})


if __name__ == "__main__":
    main()
