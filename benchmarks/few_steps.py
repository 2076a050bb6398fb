"""How good are one, two and four steps? A teacher and all that learns few steps from it, at equal time.

    python benchmarks/few_steps.py [--source digits] [--teacher flow-matching] [--time 10m] [--samples 1000]
    python benchmarks/few_steps.py --teacher-run runs/digits --only reflow consistency-distillation

Each is trained for ``--time``; the Fréchet distance is by the evaluator's own features, the teacher's at the steps of
its recipe. The goal: at 2 steps at most 2 times the teacher's. ``--teacher-run`` takes a trained run for the teacher,
``--only`` some of the students. Each row is written to ``benchmarks/results/few-steps.json`` once it is there, beside
the rows of earlier calls, which must have asked for the same (``--anew`` drops them); grids go beside the runs in
runs/few-steps. Alone on the machine, please: all budgets are times.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import reverie
from reverie.core.images import from_bytes, save_grid, to_bytes
from reverie.core.model import Model
from reverie.core.run import Run
from reverie.core.sampling import sample
from reverie.data.config import DataConfig
from reverie.data.dataset import open_data
from reverie.evaluation.features.features import Features, choose_features
from reverie.evaluation.frechet import frechet_estimate
from reverie.evaluation.moments import Moments, training_moments
from reverie.training.grids import layout

ROOT = Path(__file__).resolve().parents[1]
RESULTS, RUNS = ROOT / "benchmarks" / "results" / "few-steps.json", ROOT / "runs" / "few-steps"
STEPS = (1, 2, 4)
STUDENTS = ("consistency", "consistency-distillation", "reflow", "reflow-steps", "progressive-distillation")
KNOWN: dict[str, tuple[int | None, ...]] = {"reflow-steps": (2,), "progressive-distillation": (None,)}
"""Of students that know one number of steps alone, None for the one they have come to."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="digits")
    parser.add_argument("--teacher", default="flow-matching")
    parser.add_argument("--teacher-run", type=Path, help="a trained run; --teacher and --source are then its own")
    parser.add_argument("--time", default="10m")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--only", nargs="+", choices=STUDENTS, default=STUDENTS, metavar="NAME")
    parser.add_argument("--anew", action="store_true", help="drop the rows of earlier calls")
    asked = parser.parse_args(arguments)
    if asked.teacher_run:
        recipe = Run.open(asked.teacher_run).recipe
        asked.teacher, asked.source = recipe.name, recipe.data["source"]
    settings = {"source": asked.source, "teacher": asked.teacher, "time": asked.time, "samples": asked.samples}
    settings["teacher_run"] = None if asked.teacher_run is None else asked.teacher_run.resolve().name
    rows = {} if asked.anew else earlier(settings)
    if asked.teacher_run:
        teacher = Run.open(asked.teacher_run)
    else:
        teacher = reverie.train(asked.teacher, asked.source, out=RUNS / asked.teacher, time=asked.time)
    measure = Measure(teacher, asked.samples)
    if asked.teacher not in rows:
        rows[asked.teacher] = measure(asked.teacher, reverie.load(teacher.folder), (None, *STEPS))
        write(settings, rows)
    for name in asked.only:
        run = student(name, teacher, asked.source, asked.time)
        rows[name] = measure(name, reverie.load(run.folder), KNOWN.get(name, STEPS))
        write(settings, rows)


def student(name: str, teacher: Run, source: str, time: str) -> Run:
    """Trains one, or judges it as it is; ``reflow-steps`` goes on from ``reflow``, at its own two steps alone."""
    changes = {} if name == "consistency" else {"teacher": f"run:{teacher.folder}"}
    if name == "reflow-steps":
        changes |= {"start": f"run:{RUNS / 'reflow'}", "model.times": "steps"}
    return reverie.train(name.removesuffix("-steps"), source, out=RUNS / name, time=time, changes=changes)


def earlier(settings: dict[str, Any]) -> dict[str, Any]:
    """The rows that are there; they must have been asked for alike, or one table would compare unlike things."""
    if not RESULTS.exists():
        return {}
    found = json.loads(RESULTS.read_text())
    rows: dict[str, Any] = found.pop("frechet")
    unlike = [f"{key} {found.get(key)}, now {value}" for key, value in settings.items() if found.get(key) != value]
    if unlike:
        raise SystemExit(f"{RESULTS} has rows of {'; '.join(unlike)}: ask for the same, or --anew to drop them")
    return rows


def write(settings: dict[str, Any], rows: dict[str, Any]) -> None:
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps({**settings, "frechet": rows}, indent=1) + "\n")


class Measure:
    """Measures samples against the data that the teacher was trained on.

    Arguments:
        teacher: whose data it is.
        count: of the samples.
    """

    def __init__(self, teacher: Run, count: int) -> None:
        dataset = open_data(DataConfig.read(teacher.recipe.data, "data"))
        self.features: Features = choose_features(dataset)
        self.real = training_moments(dataset, self.features, None)
        self.count = count

    def __call__(self, name: str, model: Model, steps: Sequence[int | None]) -> dict[str, Any]:
        """The Fréchet distance at each number of steps, None for the recipe's own (``own``); grids are drawn, too."""
        return {str(n or "own"): self._at(name, model, n) for n in steps}

    def _at(self, name: str, model: Model, steps: int | None) -> dict[str, Any]:
        how = model.config.sampling.model_copy(update={"steps": steps} if steps else {})
        x = from_bytes(to_bytes(sample(model, self.count, 0, how=how).x))
        drawn = torch.cat([self.features.extract(part) for part in x.split(256)])
        moments = Moments(self.features.size).add(drawn)
        columns, labels = layout(model.space.classes, 100)
        grid = sample(model, 100, 1, labels=labels, how=how).x
        RUNS.mkdir(parents=True, exist_ok=True)
        save_grid(grid, RUNS / f"{name}-{steps or 'own'}.png", columns, scale=2)
        found = frechet_estimate(self.real, moments, drawn).distance
        print(
            f"{name:26} {steps or 'own':>4} steps: {found.value:8.2f}  {found.low:.2f} … {found.high:.2f}", flush=True
        )
        return found._asdict()


if __name__ == "__main__":
    main()
