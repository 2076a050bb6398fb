"""Fréchet distance against evaluations of the network, for every solver of one trained run.

    python benchmarks/solvers.py RUN [--count 1000] [--steps 5 10 20 50] [--ancestral 1000] [--seed 0] [--only NAME ...]

All solvers start from the same noise and labels. Distances are to the training rows, in the features that
``reverie evaluate`` picks for the run's data; the bar is DDPM's ancestral sampler in ``--ancestral`` steps, and the
floor is what held-out rows reach. Writes ``benchmarks/results/solvers-<run>.json`` and a plot beside it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import torch
from torch import Tensor

import reverie
from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises, Posterior
from reverie.core.device import autocast
from reverie.core.model import Model
from reverie.core.noise import KeyedNoise
from reverie.core.run import Run
from reverie.data import DataConfig, open_data
from reverie.evaluation.features.features import Features, choose_features
from reverie.evaluation.frechet import frechet_estimate
from reverie.evaluation.moments import Moments, training_moments
from reverie.evaluation.subject import shuffled
from reverie.maths.paths import per_row
from reverie.maths.times import Grid, grid
from reverie.samplers.guidance.clip import Clip
from reverie.samplers.integrate import integrate
from reverie.samplers.solver import find_solver

matplotlib.use("Agg")
from matplotlib import pyplot as plt

RESULTS = Path(__file__).parent / "results"
BATCH = 250
SOLVERS: dict[str, tuple[Any, Grid]] = {  # the solver and its times
    "ddpm": ("ddpm", "even"),
    "ddim": ("ddim", "even"),
    "ddim, eta 1": ({"name": "ddim", "eta": 1.0}, "even"),
    "euler": ("euler", "even"),
    "heun": ("heun", "even"),
    "heun, karras": ("heun", "karras"),
    "dpm-solver": ("dpm-solver", "even"),
    "dpm-solver, log-snr": ("dpm-solver", "log-snr"),
    "dpm-solver, eta 1": ({"name": "dpm-solver", "eta": 1.0}, "log-snr"),
    "unipc": ("unipc", "even"),
    "unipc, log-snr": ("unipc", "log-snr"),
    "unipc 3, log-snr": ({"name": "unipc", "order": 3}, "log-snr"),
    "edm": ("edm", "karras"),
    "predictor-corrector": ("predictor-corrector", "even"),
}
TOLERANCES = (1e-1, 1e-2, 1e-3)


@dataclass
class Counted:
    """What solvers need of a denoiser, counting the rows it is given."""

    model: Denoises
    rows: int = 0

    @property
    def path(self) -> Any:
        return self.model.path

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Posterior:
        self.rows += len(x_t)
        return self.model.denoise(x_t, t, condition)


@dataclass(frozen=True)
class Bench:
    """What distances are measured with."""

    model: Model
    denoiser: Denoises
    features: Features
    real: Moments
    count: int
    seed: int

    def measure(self, choice: Any, times: Sequence[float]) -> dict[str, Any]:
        """The distance of samples that a solver draws through times."""
        denoiser = self.denoiser
        clipped = getattr(self.model.config.sampling, "clip", False) and self.model.space.depth
        counted, solver = Counted(Clip(denoiser) if clipped else denoiser), find_solver(choice)
        found: list[Tensor] = []
        begun = time.perf_counter()
        for start in range(0, self.count, BATCH):
            ids = torch.arange(start, min(start + BATCH, self.count))
            noise = KeyedNoise(self.seed, ids, "sample")
            classes = self.model.space.classes
            condition = Condition(label=KeyedNoise(self.seed, ids, "label").integers(classes) if classes else None)
            with torch.no_grad(), autocast(torch.device("cpu"), "auto"):
                z = noise.normal(*denoiser.space.shape)
                x_1 = per_row(denoiser.path(torch.ones(len(z)))[1], z) * z
                x = denoiser.leave(integrate(counted, solver, x_1, times, noise, condition)).float().clamp(-1, 1)
            found.append(self.features.extract(x))
        features = torch.cat(found)
        distance = frechet_estimate(self.real, Moments(features.shape[1]).add(features), features).distance
        return {
            "evaluations": counted.rows / self.count,
            "distance": distance.value,
            "low": distance.low,
            "high": distance.high,
            "seconds": round(time.perf_counter() - begun, 1),
        }


def plot(record: dict[str, Any], file: Path) -> None:
    """Distance against evaluations, a line a solver."""
    figure, axes = plt.subplots(figsize=(9, 6))
    for number, name in enumerate(dict.fromkeys(row["solver"] for row in record["rows"])):
        rows = sorted((r for r in record["rows"] if r["solver"] == name), key=lambda r: r["evaluations"])
        style = ("-", "--", ":")[number // 10]
        axes.plot([r["evaluations"] for r in rows], [r["distance"] for r in rows], "o" + style, ms=3, label=name)
    bar = record["ancestral"]
    axes.axhspan(bar["low"] or bar["distance"], bar["high"] or bar["distance"], color="0.85")
    axes.axhline(bar["distance"], color="0.5", label=f"ddpm in {bar['steps']} steps, 95 %")
    axes.axhline(record["floor"], color="0.5", ls=":", label="held-out rows")
    axes.set(xscale="log", yscale="log", xlabel="evaluations a sample", ylabel="Fréchet distance")
    axes.set_title(f"{record['run']}, {record['count']} samples")
    axes.legend(fontsize=7, ncols=2)
    figure.savefig(file, dpi=120, bbox_inches="tight")
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--steps", nargs="+", type=int, default=[5, 10, 20, 50])
    parser.add_argument("--ancestral", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=list(SOLVERS), choices=list(SOLVERS), metavar="NAME")
    asked = parser.parse_args()
    run = Run.open(asked.run)
    model = reverie.load(run)
    data = open_data(DataConfig.read(run.recipe.data, "data"))
    features = choose_features(data)
    real = training_moments(data, features)
    model.eval()
    denoiser = model.view(Denoises)
    assert denoiser is not None, "this run does not denoise"
    path = denoiser.path
    ticks = getattr(path, "steps", None)  # DDPM's T
    bench = Bench(model, denoiser, features, real, asked.count, asked.seed)
    held = torch.cat(list(features.of_rows(data.held_out, shuffled(len(data.held_out))[: asked.count])))
    floor = frechet_estimate(real, Moments(features.size).add(held), held).distance.value
    record: dict[str, Any] = {
        "run": asked.run.name,
        "count": asked.count,
        "floor": floor,
        "features": features.statement,
    }
    bar = bench.measure("ddpm", grid("even", asked.ancestral, path, ticks))
    record |= {"ancestral": {"steps": asked.ancestral, **bar}, "rows": []}
    print(f"ddpm in {asked.ancestral} steps: {bar['distance']:.2f} ({bar['low']:.2f} to {bar['high']:.2f})", flush=True)

    def keep(solver: str, steps: int | None, row: dict[str, Any]) -> None:
        share = row["distance"] / bar["distance"]
        record["rows"].append({"solver": solver, "steps": steps, **row, "of_ancestral": share})
        print(f"{solver}: {row['evaluations']:.0f} evaluations, {row['distance']:.2f}, {share:.2f} of it", flush=True)
        file = RESULTS / f"solvers-{asked.run.name}.json"
        file.write_text(json.dumps(record, indent=1) + "\n")
        plot(record, file.with_suffix(".png"))

    for name in asked.only:
        choice, kind = SOLVERS[name]
        for steps in asked.steps:
            keep(name, steps, bench.measure(choice, grid(kind, steps, path, ticks)))
    for tolerance in TOLERANCES if asked.only == list(SOLVERS) else ():
        choice = {"name": "dormand-prince", "relative": tolerance, "absolute": tolerance}
        keep("dormand-prince", None, bench.measure(choice, [1.0, 0.0]))


if __name__ == "__main__":
    main()
