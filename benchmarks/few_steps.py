"""How good are one, two and four steps? A teacher and all that learns few steps from it, at equal time.

    python benchmarks/few_steps.py [--source digits] [--teacher flow-matching] [--time 10m] [--samples 1000]

Each is trained for ``--time``; the Fréchet distance is by the evaluator's own features, the teacher's at the steps of
its recipe. The goal: at 2 steps at most 2 times the teacher's. Writes ``benchmarks/results/few-steps.json`` and grids
beside the runs in runs/few-steps. Alone on the machine, please: all budgets are times.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

import reverie
from reverie.core.images import from_bytes, save_grid, to_bytes
from reverie.core.model import Model
from reverie.core.sampling import sample
from reverie.data.config import DataConfig
from reverie.data.dataset import open_data
from reverie.evaluation.features.features import choose_features
from reverie.evaluation.frechet import frechet_estimate
from reverie.evaluation.moments import Moments, training_moments
from reverie.training.grids import layout

ROOT = Path(__file__).resolve().parents[1]
RESULTS, RUNS = ROOT / "benchmarks" / "results" / "few-steps.json", ROOT / "runs" / "few-steps"
STEPS = (1, 2, 4)
STUDENTS = ("consistency", "consistency-distillation", "reflow", "progressive-distillation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="digits")
    parser.add_argument("--teacher", default="flow-matching")
    parser.add_argument("--time", default="10m")
    parser.add_argument("--samples", type=int, default=1000)
    asked = parser.parse_args()
    teacher = reverie.train(asked.teacher, asked.source, out=RUNS / asked.teacher, time=asked.time)
    dataset = open_data(DataConfig.read(teacher.recipe.data, "data"))
    features = choose_features(dataset)
    real = training_moments(dataset, features, None)

    def measured(name: str, model: Model, steps: int | None) -> dict[str, Any]:
        how = model.config.sampling.model_copy(update={"steps": steps} if steps else {})
        x = from_bytes(to_bytes(sample(model, asked.samples, 0, how=how).x))
        drawn = torch.cat([features.extract(part) for part in x.split(256)])
        moments = Moments(features.size).add(drawn)
        columns, labels = layout(model.space.classes, 100)
        grid = sample(model, 100, 1, labels=labels, how=how).x
        save_grid(grid, RUNS / f"{name}-{steps or 'own'}.png", columns, scale=2)
        found = frechet_estimate(real, moments, drawn).distance
        print(
            f"{name:26} {steps or 'own':>4} steps: {found.value:8.2f}  {found.low:.2f} … {found.high:.2f}", flush=True
        )
        return found._asdict()

    model = reverie.load(teacher.folder)
    results = {asked.teacher: {str(n): measured(asked.teacher, model, n) for n in (None, *STEPS)}}
    for name in STUDENTS:
        part = {} if name == "consistency" else {"teacher": f"run:{teacher.folder}"}
        run = reverie.train(name, asked.source, out=RUNS / name, time=asked.time, changes=part)
        model = reverie.load(run.folder)
        results[name] = {str(n): measured(name, model, n) for n in STEPS}
    RESULTS.write_text(json.dumps({**vars(asked), "frechet": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
