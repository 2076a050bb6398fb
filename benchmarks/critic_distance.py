"""What a critic's loss says: W1 between distributions whose distance is known, and along a training of digits.

    python benchmarks/critic_distance.py known       # some six minutes
    python benchmarks/critic_distance.py training    # some eight minutes

``known`` trains critics to the end between two fixed distributions: with the two-sided penalty, whose difference of
means is W (1 + W / 2 lambda) and becomes W when it is divided by the critic's measured slope; and clipped, whose scale
is unknown until it is so divided. ``training`` freezes the generator of a WGAN-GP at several times, and trains a new
critic and a new discriminator against each: the critic's W1 falls as samples get better, while the discriminator's
estimate of the Jensen-Shannon divergence stays at its limit. Writes ``benchmarks/results/critic_distance.json`` and
``docs/pictures/critic_distance.png``.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import reverie
from reverie.core.noise import KeyedNoise
from reverie.core.space import Space
from reverie.data import DataConfig, open_data
from reverie.maths.penalties import between, penalty, slope
from reverie.nn.discriminator import dcgan, mlp

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PICTURE = ROOT / "benchmarks/results/critic_distance.json", ROOT / "docs/pictures/critic_distance.png"
RUN = ROOT / "runs" / "critic-distance"
STEPS, BATCH, WEIGHT, CLIP = 6_000, 512, 10.0, 0.01
Pairs = Iterator[tuple[Tensor, Tensor]]


def gaussians(size: int, shift: float, scale: float) -> Callable[[], Pairs]:
    """N(0, I) and N(shift e, scale^2 I), e the diagonal's direction."""

    def draw() -> Pairs:
        generator = torch.Generator().manual_seed(0)
        while True:
            x, y = torch.randn(2, BATCH, size, generator=generator)
            yield x, scale * y + shift / size**0.5

    return draw


def rings(one: float, two: float) -> Callable[[], Pairs]:
    """Two circles about the origin."""

    def draw() -> Pairs:
        generator = torch.Generator().manual_seed(0)
        while True:
            x, y = (F.normalize(side) for side in torch.randn(2, BATCH, 2, generator=generator))
            yield one * x, two * y

    return draw


CASES = {
    "1-D, shifted by 1": (gaussians(1, 1.0, 1.0), 1, 1.0),
    "1-D, shifted by 5": (gaussians(1, 5.0, 1.0), 1, 5.0),
    "1-D, twice as wide": (gaussians(1, 0.0, 2.0), 1, math.sqrt(2 / math.pi)),
    "2-D, shifted by 3": (gaussians(2, 3.0, 1.0), 2, 3.0),
    "2-D, circles of 1 and 2.5": (rings(1.0, 2.5), 2, 1.5),
}


def between_points(x: Tensor, y: Tensor, seed: int) -> Tensor:
    points: Tensor = between(x, y, KeyedNoise(seed, torch.arange(len(x)), "between"))
    return points.detach().requires_grad_()


def train_critic(critic: nn.Module, pairs: Pairs, steps: int, clipped: bool, rate: float) -> None:
    """A critic to its optimum against two fixed distributions."""
    optimizer = torch.optim.Adam(critic.parameters(), rate, betas=(0.5, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    measure = penalty("gradient-penalty").measure
    for step in range(steps):
        x, y = next(pairs)
        loss = critic(y).mean() - critic(x).mean()
        if not clipped:
            points = between_points(x, y, step)
            loss = loss + WEIGHT * measure(slope(critic(points), points)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if clipped:
            with torch.no_grad():
                for weight in critic.parameters():
                    weight.clamp_(-CLIP, CLIP)


def estimate(critic: nn.Module, pairs: Pairs, batches: int = 40) -> dict[str, float]:
    """The difference of means, and the same divided by the greatest slope that transport meets."""
    apart, slopes = 0.0, []
    for k in range(batches):
        x, y = next(pairs)
        with torch.no_grad():
            apart += float(critic(x).mean() - critic(y).mean()) / batches
        points = between_points(x, y, k)
        slopes.append(slope(critic(points), points).flatten(1).norm(dim=1).detach())
    steepest = float(torch.cat(slopes).quantile(0.99))  # the very greatest is of a stray point in a corner
    return {"difference": apart, "slope": steepest, "divided": apart / steepest}


def known() -> dict[str, Any]:
    found = {}
    for name, (draw, size, exact) in CASES.items():
        found[name] = {"exact": exact, "two-sided penalty predicts": exact * (1 + exact / (2 * WEIGHT))}
        for kind in ("gradient-penalty", "clipped"):
            torch.manual_seed(0)
            critic = mlp.Network(mlp.Config(width=128, depth=3), Space((size,)))
            # On a line a slope cannot turn, and the two-sided penalty keeps one of the wrong sign from passing 0: a
            # critic that begins flat takes the right one.
            nn.init.zeros_(critic.head.logit.weight)
            train_critic(critic, draw(), STEPS, kind == "clipped", 1e-3)
            result = estimate(critic, draw())
            found[name][kind] = result | {"relative_error": result["divided"] / exact - 1}
        print(name, json.dumps(found[name]), flush=True)
    return found


def digits(generator_run: Path, start: int = 0) -> Pairs:
    """Training rows and samples of a run, without end."""
    model = reverie.load(generator_run)
    real = open_data(DataConfig(source="digits")).train
    for seed in range(10_000):
        order = torch.randperm(len(real), generator=torch.Generator().manual_seed(seed + start))[:2048]
        x = real.take(order.sort().values.numpy())[0]
        y = reverie.sample(model, 2048, seed=seed + start).x
        x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))]
        yield from zip(x.split(64), y.split(64), strict=True)


def training(images: tuple[int, ...] = (640, 6_400, 16_000, 40_000, 100_000)) -> list[dict[str, float]]:
    found = []
    for count in images:
        quick = (
            "data.condition=none",
            "model.generator.image={name: dcgan, width: 32}",
            "model.discriminator.image={name: dcgan, width: 32, norm: none}",
            "model.generator_optimizer.lr=5e-4",
            "model.discriminator_optimizer.lr=5e-4",
            "model.discriminator_turns=2",
            "model.penalties={gradient-penalty: 10}",
            "train.batch=64",
            "train.average.half_life=20000",
        )
        out = RUN / f"{count}"
        reverie.train("wgan-gp", "digits", out=out, images=count, changes=quick, quiet=True)
        report = reverie.evaluate(out, samples=2000, say=lambda line: None)["figures"]
        torch.manual_seed(0)
        space = Space((1, 28, 28))
        critic = dcgan.Network(dcgan.Config(width=32, norm="none"), space)
        train_critic(critic, digits(out), 400, False, 5e-4)
        judge = dcgan.Network(dcgan.Config(width=32, norm="none"), space)
        w1, jsd = estimate(critic, digits(out, 50_000)), divergence(judge, out)
        row = {"images": count, "critic W1": w1["divided"], "discriminator JSD": jsd}
        found.append(row | {"frechet": report["frechet_distance"]["value"]})
        print(json.dumps(found[-1]), flush=True)
    return found


def divergence(judge: nn.Module, out: Path, steps: int = 400) -> float:
    """log 2 less half the discriminator's loss, on pairs that it was not trained on: nats, at most log 2."""
    optimizer = torch.optim.Adam(judge.parameters(), 1e-3, betas=(0.5, 0.99))

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return F.softplus(-judge(x)).mean() + F.softplus(judge(y)).mean()

    pairs = digits(out)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(*next(pairs)).backward()
        optimizer.step()
    pairs = digits(out, 50_000)
    with torch.no_grad():
        return math.log(2) - 0.5 * sum(float(loss(*next(pairs))) for _ in range(40)) / 40


def draw(rows: list[dict[str, float]]) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(9.6, 2.8), layout="constrained")
    names = ("critic W1", "discriminator JSD", "frechet")
    titles = (
        "W1 by a penalised critic",
        "JSD by a discriminator (log 2 at most)",
        "Fréchet distance of classifier features",
    )
    for axis, name, title in zip(axes, names, titles, strict=True):
        axis.plot([row["images"] for row in rows], [row[name] for row in rows], "o-")
        axis.set(xscale="log", xlabel="images seen by the generator", ylim=(0, None))
        axis.set_title(title, fontsize=9)
        if name == "discriminator JSD":
            axis.axhline(math.log(2), color="grey", linestyle=":")
    figure.savefig(PICTURE, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["known", "training"])
    part = parser.parse_args().part
    begun = time.perf_counter()
    found = known() if part == "known" else training()
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    results[part] = {"seconds": round(time.perf_counter() - begun), "found": found}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    if part == "training":
        draw(found)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
