"""``compare``: several models on the same data, under the same budget, measured by the same evaluator.

What is done is kept: the same call again goes on where it stopped. A model that fails is a row that says why.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import reverie
from reverie.core.capabilities import Observes
from reverie.core.catalog import find
from reverie.core.errors import RequestError, ReverieError
from reverie.core.files import sha256, write_atomically
from reverie.core.model import Model
from reverie.core.recipe import parse_change, read_recipe
from reverie.core.run import Run
from reverie.core.sampling import stream
from reverie.data.config import DataConfig
from reverie.data.dataset import Dataset, open_data
from reverie.evaluation.evaluate import evaluate, request
from reverie.evaluation.features.features import Features, choose_features
from reverie.evaluation.frechet import frechet_distance
from reverie.evaluation.moments import Moments, training_moments
from reverie.training.build import load, resolve
from reverie.training.config import seconds
from reverie.training.flops import flops_per_image
from reverie.training.guards import Interrupted
from reverie.training.train import train

MOMENTS = (1 / 8, 1 / 4, 1 / 2, 1.0)  # of the budget, at which quality is looked at
QUICK = 300  # samples drawn for each look


class Budget(NamedTuple):
    """What each model may spend: seconds of training (a number, or text such as ``5m``), images, or FLOPs."""

    time: str | float | None = None
    images: int | None = None
    flops: float | None = None


@dataclass(frozen=True)
class Row:
    """One model, trained from one seed.

    Arguments:
        model: the recipe's name.
        seed: of its training.
        run: its folder.
        error: why there is nothing more; None where all went well.
        report: what ``evaluate`` found; empty where it could not.
        learning: quality as training went: ``fraction``, ``seconds``, ``images`` and ``frechet_distance`` each.
        seconds: spent in training.
        images: seen in training.
        flops: spent in training, where they were counted.
        labelled: whether the model was trained with labels.
    """

    model: str
    seed: int
    run: str
    error: str | None = None
    report: dict[str, Any] = field(default_factory=dict)
    learning: list[dict[str, float]] = field(default_factory=list)
    seconds: float | None = None
    images: int | None = None
    flops: float | None = None
    labelled: bool = False


def compare(
    data: str | None = None,
    models: Sequence[str] = (),
    *,
    runs: Sequence[str | Path] = (),
    time: str | float | None = None,
    images: int | None = None,
    flops: float | None = None,
    seeds: int = 1,
    samples: int = 2000,
    changes: Iterable[str] = (),
    out: str | Path | None = None,
    device: str = "auto",
    cache: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Trains and measures several models, or measures runs that there are, and writes ``comparison.json``.

    Arguments:
        data: a source; with ``runs``, the one each was trained on where None.
        models: recipes to train, each under the same budget.
        runs: run folders to compare in place of training.
        time: budget: seconds spent in training, or text such as ``5m``; measuring is not counted.
        images: budget: images seen.
        flops: budget: floating-point operations, counted on the first round.
        seeds: trainings of each model, from seeds 0, 1, …
        samples: how many to draw from each.
        changes: ``"key.path=value"`` strings for every model.
        out: the folder; ``runs/compare-<source>`` where None.
        device: where to train and sample.
        cache: see ``reverie.data.cache``.
        say: told what is going on, a line at a time.

    Returns:
        What ``comparison.json`` holds: ``settings``, ``rows`` and ``warnings``.

    Raises:
        RequestError: the request is wrong, or the folder holds another comparison.
        Interrupted: Ctrl-C; what is done is kept.
    """
    budget = Budget(time, images, flops)
    _check(data, models, runs, budget, seeds, samples)
    parsed = dict(map(parse_change, changes))
    folder = Path(out or Path("runs") / f"compare-{Path(data or 'runs').stem}")
    settings: dict[str, Any] = {"data": data, "budget": budget._asdict(), "samples": samples, "changes": parsed}
    settings |= {"runs": [str(run) for run in runs]} if runs else {}
    trained = [Run.open(run) for run in runs]
    if not runs:
        assert data is not None
        _fits(models, open_data(DataConfig.read({"source": data}, "data")), parsed)
    _settle(folder, settings)
    contest = _Contest(folder, settings, samples, device, cache, say)
    rows = [contest.measured(Row(run.recipe.name, 0, str(run.folder)), data) for run in trained]
    for model in models:
        for seed in range(seeds):
            rows.append(contest.trained(model, seed, str(data), budget, parsed))
            contest.write(rows)
    return contest.write(rows)


def _check(
    data: str | None, models: Sequence[str], runs: Sequence[str | Path], budget: Budget, seeds: int, samples: int
) -> None:
    if bool(models) == bool(runs):
        raise RequestError("name what to compare: --models a,b,c to train them, or --runs of trained ones, not both")
    if len(set(models)) < len(models) or len({str(run) for run in runs}) < len(runs):
        raise RequestError("the same is named twice; for several trainings of a model use --seeds")
    given = [name for name, value in budget._asdict().items() if value is not None]
    if models and len(given) != 1:
        instead = f", not {' and '.join(given)}" if given else ""
        raise RequestError(f"give one budget: --time 5m, --images N or --flops N{instead}")
    if runs and given:
        raise RequestError(f"--{given[0]} is a budget of trainings; the runs of --runs are trained already")
    if budget.time is not None:
        try:
            seconds(budget.time)
        except ValueError as error:
            raise RequestError(f"--time: {error}") from None
    if models and not data:
        raise RequestError("--data is missing: a folder, a zip, or a built-in source such as digits")
    if seeds < 1 or samples < 16:
        raise RequestError("at least one seed and 16 samples are needed")
    for model in models:
        find(model)


def _fits(models: Sequence[str], dataset: Dataset, changes: dict[str, Any]) -> None:
    """Refuses what no model can be trained with; what only some cannot becomes their rows."""
    errors = []
    for model in models:
        try:
            resolve(read_recipe(model, {**changes, "train.seed": 0}), dataset.space)
        except RequestError as error:
            errors.append(error)
    if len(errors) == len(models):
        raise errors[0]


def _settle(folder: Path, settings: dict[str, Any]) -> None:
    """Holds the settings against those of the comparison that the folder holds already.

    Runs may be added to others; a comparison without a single figure may be replaced.
    """
    file = folder / "comparison.json"
    folder.mkdir(parents=True, exist_ok=True)
    if not file.is_file():
        return
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        empty, there = not any(row["report"] for row in found["rows"]), dict(found["settings"])
    except (ValueError, KeyError, TypeError):
        raise RequestError(f"{file} is damaged: remove it, or give another --out") from None
    if empty:
        return
    for key, value in json.loads(json.dumps({"runs": [], **settings})).items():
        before = there.get(key, [] if key == "runs" else None)
        if before != value and not (key == "runs" and before and set(before) <= set(value)):
            raise RequestError(f"{folder} holds another comparison, whose {key} is {_told(before)}; give another --out")


def _told(value: Any) -> str:
    """A setting as text."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items() if v is not None) or "none"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _why(error: Exception) -> str:
    """An error as a sentence."""
    return str(error) if isinstance(error, ReverieError) else f"{type(error).__name__}: {error}".splitlines()[0]


class _Contest:
    """One comparison at work."""

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        samples: int,
        device: str,
        cache: str | Path | None,
        say: Callable[[str], None],
    ) -> None:
        self.folder, self.settings, self.samples = folder, settings, samples
        self.device, self.cache, self.say = device, cache, say

    def trained(self, model: str, seed: int, data: str, budget: Budget, changes: dict[str, Any]) -> Row:
        """Trains one model as far as the budget goes, looking at its quality on the way, and measures it."""
        run = Run(self.folder / "runs" / f"{model}-{seed}")
        row = Row(model, seed, str(run.folder))
        asked = {**changes, "train.seed": seed}
        try:
            spend: dict[str, Any] = {"time": budget.time, "images": budget.images}
            per_image = None
            if budget.flops is not None:
                dataset = open_data(DataConfig.read({**_recipe_data(model), "source": data}, "data"))
                named = {**asked, "train.images": 1, "train.time": None, "train.steps": None}
                per_image = flops_per_image(model, dataset, named)
                spend = {"images": max(1, round(budget.flops / per_image))}
            done = [look["fraction"] for look in _looks(run)]
            for fraction in MOMENTS:
                if fraction in done:
                    continue
                self.say(f"{model}, seed {seed}: training to {fraction:.0%} of the budget")
                train(
                    model,
                    data,
                    out=run.folder,
                    changes=asked,
                    device=self.device,
                    quiet=True,
                    stop=lambda progress, until=fraction: progress.fraction >= until,  # type: ignore[misc]
                    **spend,
                )
                self._look(run, fraction)
        except Interrupted:
            raise
        except Exception as error:  # a model may raise anything: the others go on
            self.say(f"{model}, seed {seed}: {_why(error)}")
            return Row(**{**asdict(row), "error": _why(error)})
        row = self.measured(row, None)
        return Row(**{**asdict(row), "flops": per_image * row.images if per_image and row.images else None})

    def measured(self, row: Row, data: str | None) -> Row:
        """The row with what ``evaluate`` finds, or found before."""
        run = Run(row.run)
        events = [event for event in run.journal() if event["event"] in ("done", "checkpoint", "log")]
        seconds = [event["seconds"] for event in events if "seconds" in event]
        images = [event["images"] for event in events if "images" in event]
        try:
            report = self._kept(run, data)
            if report is None:
                self.say(f"{row.model}, seed {row.seed}: measuring")
                report = evaluate(
                    run, data, samples=self.samples, device=self.device, cache=self.cache, say=lambda line: None
                )
            error = None
            if report["failed"]:
                error = "; ".join(dict.fromkeys(report["failed"].values()))
        except Interrupted:
            raise
        except Exception as failure:
            report, error = {}, _why(failure)
        return Row(
            row.model,
            row.seed,
            row.run,
            error,
            report,
            _looks(run),
            max(seconds, default=None),
            max(images, default=None),
            labelled=bool(report and report["space"]["classes"]),
        )

    def _kept(self, run: Run, data: str | None) -> dict[str, Any] | None:
        """An evaluation of the very same, where there is one."""
        file = run.report / "report.json"
        if not file.is_file():
            return None
        try:
            report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:  # damaged: it is measured again
            return None
        same = (
            report.get("model_sha256") == sha256(run.model_file)
            and (report.get("samples"), report.get("seed")) == (self.samples, 0)
            and report.get("reverie") == reverie.__version__
            and report.get("asked") == request(data)
            and not report.get("failed")
        )
        return report if same else None

    def _look(self, run: Run, fraction: float) -> None:
        """Measures quality quickly, and writes it into the run."""
        model = load(run, self.device)
        dataset = open_data(DataConfig.read(run.recipe.data, "data"))
        features = choose_features(dataset, None if self.cache is None else Path(self.cache), lambda line: None)
        distance = _quick_distance(model, dataset, features, self.cache)
        last = [event for event in run.journal() if event["event"] == "checkpoint"][-1]
        logs = [event["images"] for event in run.journal() if "images" in event]
        look = {
            "fraction": fraction,
            "seconds": last["seconds"],
            "images": max(logs, default=0),
            "frechet_distance": distance,
        }
        run.report.mkdir(parents=True, exist_ok=True)
        with open(run.report / "learning.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(look) + "\n")

    def write(self, rows: list[Row]) -> dict[str, Any]:
        """Writes what there is, and copies each row's first samples beside it."""
        for row in rows:
            picture = Run(row.run).report / "samples.png"
            if picture.is_file():
                shutil.copyfile(picture, self.folder / f"{Path(row.run).name}.png")
        found = {
            "reverie": reverie.__version__,
            "settings": self.settings,
            "rows": [asdict(row) for row in rows],
            "warnings": differences(rows),
        }
        write_atomically(self.folder / "comparison.json", json.dumps(found, indent=1).encode())
        return found


def differences(rows: Sequence[Row]) -> list[str]:
    """Sentences that name figures of different recipes: what may not be compared."""
    sources = {row.report["data"]["hash"]: row.report["data"]["source"] for row in rows if row.report.get("data")}
    if len(sources) > 1:
        return [
            f"These runs were measured against different data ({', '.join(sources.values())}): no figure of samples is "
            "the same measure in all rows, and none is marked as the best; --data SOURCE measures all against one."
        ]
    sentences: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for row in rows for name in row.report.get("figures", {})):
        figures = [row.report["figures"][name] for row in rows if name in row.report.get("figures", {})]
        recipes = list(dict.fromkeys(figure["recipe"] for figure in figures))
        if len(recipes) > 1:
            parts = [recipe.split(" | ") for recipe in recipes]
            if len({len(p) for p in parts}) == 1:
                apart = [" / ".join(dict.fromkeys(p)) for p in zip(*parts, strict=True) if len(set(p)) > 1]
            else:
                apart = [" / ".join(recipes)]
            sentences.setdefault("; ".join(apart), []).append(figures[0]["title"])
    return [f"{', '.join(titles)}: not the same measure in all rows ({apart})" for apart, titles in sentences.items()]


def _recipe_data(model: str) -> dict[str, Any]:
    return dict(find(model).body.get("data", {}))


def _looks(run: Run) -> list[dict[str, float]]:
    file = run.report / "learning.jsonl"
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


def _quick_distance(model: Model, dataset: Dataset, features: Features, cache: str | Path | None) -> float:
    moments = Moments(features.size)
    for chunk in stream(model, QUICK, seed=1, condition=dataset.asks(model.space, model.view(Observes))):
        moments.add(features.extract(chunk.x))
    return frechet_distance(training_moments(dataset, features, cache), moments)
