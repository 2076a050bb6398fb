"""Mode collapse on mixtures of Gaussians: the plain GAN and its remedies on the ring of 8 and the grid of 25.

    python benchmarks/mixtures.py [--data ring grid] [--only NAME ...] [--time 3m]

All play with the same networks, batches, rates and schedule; only the game differs. The plain GAN is also run with the
minimax loss at a constant rate (``gan-minimax``), and as Metz et al. set it up to show that it collapses
(``gan-as-in-metz``: Unrolled Generative Adversarial Networks, Appendix A). A sample is good within three sigma of a
mode. Writes ``benchmarks/results/mixtures.json`` and films of the density over time to docs/pictures; trainings
are kept in runs/mixtures.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

import reverie
from reverie.data.toys import TOYS
from reverie.evaluation.modes import good_and_reached

ROOT = Path(__file__).resolve().parents[1]
RESULTS, RUNS = ROOT / "benchmarks" / "results" / "mixtures.json", ROOT / "runs" / "mixtures"
PICTURES = ROOT / "docs" / "pictures"
SAMPLES, FRAMES = 10_000, 7


DISCRIMINATOR = "model.discriminator={image: mlp, points: {name: mlp, width: 128}}"
# Linear pieces: a G that is smooth between modes leaves a bridge of bad samples there.
COMMON = (
    "train.batch=256",
    "data.condition=none",
    "model.latent=2",
    "model.generator={image: mlp, points: {name: mlp, width: 128, slope: 0}}",
)


RATES = tuple(
    f"model.{side}_optimizer.{key}" for side in ("generator", "discriminator") for key in ("lr=1e-3", "schedule=cosine")
)
METZ = (
    "train.batch=512",
    "model.latent=256",
    "model.generator={image: mlp, points: {name: mlp, width: 128, depth: 2, slope: 0}}",
    "model.discriminator={image: mlp, points: {name: mlp, width: 128, depth: 1}}",
    "model.generator_optimizer.lr=1e-3",
    "model.discriminator_optimizer.lr=1e-4",
)
SYSTEMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "gan-as-in-metz": ("gan", METZ),
    "gan-minimax": ("gan", ("model.objective=saturating", DISCRIMINATOR)),
    "gan": ("gan", (DISCRIMINATOR, *RATES)),
    "r3gan": ("r3gan", ("model.penalties={r1: 0.01, r2: 0.01}", DISCRIMINATOR, *RATES)),
    "rpgan": ("rpgan", (DISCRIMINATOR, *RATES)),
    "gan-r1": ("gan", ("model.penalties={r1: 0.01}", DISCRIMINATOR, *RATES)),
    "gan-r2": ("gan", ("model.penalties={r2: 0.01}", DISCRIMINATOR, *RATES)),
    "input-noise": ("gan", ("model.input_noise=0.2", DISCRIMINATOR, *RATES)),
    # Rows are compared in pairs: batches of a quarter cost a sixteenth.
    "minibatch": ("improved-gan", ("train.batch=64", DISCRIMINATOR.replace("128}", "128, minibatch: 32}"), *RATES)),
    "unrolled": ("unrolled", ("model.unroll_rate=0.02", DISCRIMINATOR, *RATES)),
    "lsgan": ("lsgan", (DISCRIMINATOR, *RATES)),
    "sngan": ("sngan", (DISCRIMINATOR.replace("128}", "128, spectral: true}"), *RATES)),
    # The weight of the authors' own program for toys; at 10 the critic spends its time on its slope.
    "wgan-gp": ("wgan-gp", ("model.penalties={gradient-penalty: 0.1}", DISCRIMINATOR, *RATES)),
    "veegan": ("veegan", (DISCRIMINATOR, *RATES)),
}


def run(system: str, data: str, time: str) -> dict[str, object]:
    recipe, changes = SYSTEMS[system]
    out = RUNS / f"{data}-{system}"
    asked = (*COMMON, *changes)
    trained = reverie.train(recipe, data, out=out, time=time, changes=asked, quiet=True)
    toy = TOYS[data]
    x = reverie.sample(reverie.load(trained), SAMPLES, seed=0, batch=SAMPLES).x
    found = good_and_reached(x, torch.from_numpy(toy.centres), toy.sigma)
    shares = torch.cdist(x.double(), torch.from_numpy(toy.centres)).argmin(1).bincount(minlength=len(toy.centres))
    images = max(event.get("images", 0) for event in trained.journal())
    return {
        "recipe": recipe,
        "changes": list(asked),
        "time": time,
        "threads": torch.get_num_threads(),
        "images": images,
        "modes": found.reached,
        "of": len(toy.centres),
        "good": found.good / SAMPLES,
        "smallest_share": float(shares.min()) / SAMPLES,
    }


def film(data: str, systems: list[str]) -> None:
    """The density over time: a row each system, from the sample grids of its training."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(systems), FRAMES, figsize=(FRAMES, len(systems)), layout="constrained")
    for row, system in zip(axes, systems, strict=True):
        frames = sorted((RUNS / f"{data}-{system}" / "samples").glob("*.png"))
        chosen = [frames[round(k * (len(frames) - 1) / (FRAMES - 1))] for k in range(FRAMES)]
        for axis, frame in zip(row, chosen, strict=True):
            picture = plt.imread(frame)
            rim = int(picture.shape[0] * 0.2)  # the plots show twice the range of the modes
            axis.imshow(picture[rim:-rim, rim:-rim], cmap="gray")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_title(f"{int(frame.stem) / 1e6:.1f} M", fontsize=6)
        row[0].set_ylabel(system, fontsize=6)
    figure.savefig(PICTURES / f"mixtures-{data}.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["ring", "grid"], choices=["ring", "grid"])
    parser.add_argument("--only", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS), metavar="NAME")
    parser.add_argument("--time", default="3m")
    asked = parser.parse_args()
    for data in asked.data:
        for system in asked.only:
            found = run(system, data, asked.time)
            results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
            results.setdefault(data, {})[system] = found
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
            print(data, system, {k: found[k] for k in ("images", "modes", "good", "smallest_share")}, flush=True)
        film(data, [system for system in SYSTEMS if (RUNS / f"{data}-{system}").is_dir()])


if __name__ == "__main__":
    main()
