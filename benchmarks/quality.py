"""Quality after a fixed time of training, on digits, the worst of several seeds, judged by ``judge.py``.

    python benchmarks/quality.py flow-matching [--seeds 0 1 2] [--time 10m]
    python benchmarks/quality.py r3gan | dcgan | ddpm | vae
    python benchmarks/quality.py flow-matching --pace          # how many images ten minutes do: one minute, times ten
    taskset -c 0 python benchmarks/quality.py flow-matching --images N      # as many, on one core, however long

Writes ``benchmarks/results/quality-<recipe>.json``, and the first 64 samples of seed 0 to docs/pictures.
A seed that is done is kept while the recipe stays as it is; a training that was stopped goes on. Time is spent in
training rounds on this machine, so let nothing else run; or have the pace measured while nothing else runs, and train
for that many images, which is the same training but for its clock. The pace is written beside the figures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from judge import MNIST, Court

import reverie
from reverie.core.device import has_fast_bf16
from reverie.core.images import save_grid
from reverie.core.recipe import read_recipe
from reverie.core.run import Run
from reverie.data import DataConfig, open_data
from reverie.evaluation.likelihood import likelihood
from reverie.training.config import seconds

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PICTURES, RUNS = ROOT / "benchmarks" / "results", ROOT / "docs" / "pictures", ROOT / "runs" / "quality"
SAMPLES = 10_000


class Budget(NamedTuple):
    """How long is trained: a time, or a number of images."""

    time: str
    images: int | None


class Task(NamedTuple):
    """What a recipe is trained on, and the least or greatest values that it must reach."""

    changes: dict[str, Any]
    least: dict[str, float]
    greatest: dict[str, float]


DIGITS = {"data.source": "digits"}
UNLABELLED = {**DIGITS, "data.condition": "none"}
# The recipe has the paper's constants, meant for many times as many steps as ten minutes on a CPU allow: batches of
# 128, width 64 and a rate of 2e-4. More, larger and falling steps of narrower networks take their place, and a shorter
# z: of 100, 20, 10 and 6 values, the fewer the more digits read as digits, and the more of the real ones are covered.
# Cutting z's tails off makes one digit in a hundred more read, and covers as much less.
PLAYERS = ("generator", "discriminator")
HURRIED = {
    "model.latent": 5,
    "model.sampling.truncation": 2.5,
    "train.batch": 32,
    **{f"model.{player}": {"image": {"name": "dcgan", "width": 32}, "points": "mlp"} for player in PLAYERS},
    **{f"model.{player}_optimizer.lr": 1e-3 for player in PLAYERS},
    **{f"model.{player}_optimizer.schedule": "cosine" for player in PLAYERS},
}
TASKS = {
    "flow-matching": Task(DIGITS, {"recognised": 0.97, "coverage_of_real": 0.8}, {}),
    "ddpm": Task(DIGITS, {}, {}),
    "r3gan": Task(UNLABELLED, {"smallest_share": 0.04, "confident_of_real": 0.9}, {}),
    "dcgan": Task({**UNLABELLED, **HURRIED}, {"smallest_share": 0.04, "confident_of_real": 0.9}, {}),
    "vae": Task(
        {"data.source": str(MNIST), "data.binarize": "once", "data.condition": "none"}, {}, {"negative_elbo": 98.0}
    ),
}


def settings_of(recipe: str) -> str:
    """A hash of what is trained: figures of another recipe are not kept."""
    body = read_recipe(recipe, {k: v for k, v in TASKS[recipe].changes.items() if k != "data.source"})
    text = json.dumps({"model": body.model, "train": body.train, "data": body.data}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def pace(recipe: str, budget: str) -> dict[str, Any]:
    """How many images a tenth of the time does on this machine, and so all of it."""
    part = seconds(budget) / 10
    run = reverie.train(
        recipe, out=RUNS / f"{recipe}-pace-{settings_of(recipe)}", time=f"{part:g}s", changes=TASKS[recipe].changes
    )
    done = training(run)
    images = round(done["images_seen"] / done["training_seconds"] * seconds(budget))
    return {"images": images, "measured_on": machine(), "measured_seconds": done["training_seconds"]}


def machine() -> str:
    cores = f"{torch.get_num_threads()} of {os.cpu_count()} cores"
    number = "bf16" if has_fast_bf16(torch.device("cpu")) else "fp32"
    return f"{torch.backends.cpu.get_cpu_capability()}, {cores}, torch {torch.__version__}, {number}"


def measure(recipe: str, seed: int, budget: Budget, court: Court) -> dict[str, Any]:
    """Trains one seed, draws samples, judges them."""
    changes = {**TASKS[recipe].changes, "train.seed": seed}
    out = RUNS / f"{recipe}-{budget.images or budget.time}-{settings_of(recipe)}-{seed}"
    if budget.images:
        run = reverie.train(recipe, out=out, images=budget.images, changes=changes)
    else:
        run = reverie.train(recipe, out=out, time=budget.time, changes=changes)
    model = reverie.load(run)
    begun = time.perf_counter()
    drawn = reverie.sample(model, SAMPLES, seed=0)
    seconds = time.perf_counter() - begun
    labels = torch.full((SAMPLES,), -1) if drawn.labels is None else drawn.labels
    found = court.measure(drawn.x, labels)
    found |= court.relative(found) | {"sampling_seconds": round(seconds, 1), **training(run)}
    data = open_data(DataConfig.read(run.recipe.data, "data"))
    if recipe == "vae":
        bound = likelihood(model, data.held_out, most=None, batch=500, patience=None)
        assert bound is not None
        found |= {"negative_elbo": -bound.nats, "bits_per_dim": bound.bits_per_dim, "test_rows": bound.rows}
    if seed == 0:
        save_grid(drawn.x[:64], PICTURES / f"{recipe}.png", columns=8, scale=2)
    return found


def training(run: Run) -> dict[str, Any]:
    """How much was trained in the time."""
    done = [event for event in run.journal() if event.get("event") == "done"]
    return {"images_seen": done[-1]["images"], "training_seconds": done[-1]["seconds"]}


def verdict(task: Task, seeds: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The worst seed's value of each figure that has a bar, and whether all are reached."""
    worst = {name: min(found[name] for found in seeds.values()) for name in task.least}
    worst |= {name: max(found[name] for found in seeds.values()) for name in task.greatest}
    reached = all(worst[n] >= bar for n, bar in task.least.items())
    return {"worst": worst, "reached": reached and all(worst[n] <= bar for n, bar in task.greatest.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=sorted(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--time", default="10m")
    parser.add_argument("--images", type=int, help="train for this many images instead")
    parser.add_argument("--pace", action="store_true", help="measure how many images the time does, and stop")
    asked = parser.parse_args()
    file = RESULTS / f"quality-{asked.recipe}.json"
    task, settings = TASKS[asked.recipe], settings_of(asked.recipe)
    results: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    if results.get("settings") != settings:
        results = {"settings": settings, "seeds": {}}
    if asked.pace:
        results["pace"] = {"time": asked.time, **pace(asked.recipe, asked.time)}
        write(file, results)
        return print(json.dumps(results["pace"]))
    budget = Budget(asked.time, asked.images)
    if results.get("budget") != budget._asdict():
        results["seeds"] = {}
    court = Court()
    for seed in asked.seeds:
        if str(seed) not in results["seeds"]:
            results["seeds"][str(seed)] = measure(asked.recipe, seed, budget, court)
        results |= {
            "recipe": asked.recipe,
            "budget": budget._asdict(),
            "data": "MNIST" if asked.recipe == "vae" else "digits",
            "changes": {k: v for k, v in task.changes.items() if k != "data.source"},
            "samples": SAMPLES,
            "machine": machine(),
            "judge": {"accuracy": court.accuracy, "real_held_out": court.real},
            "bars": {"at least": task.least, "at most": task.greatest},
            **verdict(task, results["seeds"]),
        }
        write(file, results)
        print(json.dumps(results["seeds"][str(seed)]), flush=True)
    print(json.dumps({k: results[k] for k in ("worst", "reached", "bars")}, indent=1))


def write(file: Path, results: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
