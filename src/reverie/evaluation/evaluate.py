"""``evaluate``: measures a run with everything that its model and its data allow, in bounded memory."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import reverie
from reverie.core.allocator import keep_freed_memory
from reverie.core.errors import RequestError, ReverieError
from reverie.core.files import sha256, write_atomically
from reverie.core.model import Model
from reverie.core.run import Run
from reverie.core.sampling import sampling_of
from reverie.data.config import DataConfig
from reverie.data.dataset import Dataset, open_data
from reverie.evaluation import pictures
from reverie.evaluation.features.features import choose_features
from reverie.evaluation.figure import Figure
from reverie.evaluation.measures import questions
from reverie.evaluation.subject import Subject
from reverie.training.build import load, read_model_header
from reverie.training.doctor import diagnose

LEAST = 16  # samples


class Answer(NamedTuple):
    """The figures that answer a question."""

    question: str
    figures: dict[str, Figure]


def evaluate(
    run: str | Path | Run,
    data: str | None = None,
    *,
    changes: Iterable[str] | Mapping[str, Any] = (),
    samples: int = 2000,
    seed: int = 0,
    device: str = "auto",
    batch: int = 256,
    likelihood_rows: int = 1024,
    features: str = "auto",
    cache: str | Path | None = None,
    say: Callable[[str], None] = print,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measures a trained run, and writes ``report/report.json`` and pictures into it.

    Arguments:
        run: a run folder.
        data: a source to measure against, of the model's classes or of none; the one it was trained on where None.
        changes: to how samples are drawn, ``key=value`` each, as in ``guidance=2``, or a mapping.
        samples: how many to draw.
        seed: of the samples and of whatever else is drawn.
        device: where to sample; ``auto`` picks.
        batch: rows computed at once; changes memory and speed only.
        likelihood_rows: held-out rows whose likelihood is measured, at most.
        features: where distances are measured; see ``choose_features``.
        cache: where trained features are kept; see ``reverie.data.cache``.
        say: told what is going on, a line at a time.
        progress: called with (samples drawn, samples in all).

    Returns:
        What ``report.json`` holds: ``figures`` by name, each with its value, its interval, its meaning and, where
        there is one, its floor; ``failed``, what could not be measured, and ``left_out``, for too few rows, and why.

    Raises:
        RequestError: there is no trained model, it has no such setting, or the data are of another shape.
    """
    if samples < LEAST:
        raise RequestError(f"{samples} samples are too few to measure; ask for at least {LEAST}")
    run = run if isinstance(run, Run) else Run.open(run)
    model, changed = _loaded(run, device, changes)
    dataset = _data(run, model, data, say)
    run.report.mkdir(parents=True, exist_ok=True)
    subject = Subject(
        run,
        model,
        dataset,
        choose_features(dataset, None if cache is None else Path(cache), say, features),
        count=int(samples),  # NumPy's whole numbers are none that JSON knows
        seed=int(seed),
        batch=batch,
        likelihood_rows=likelihood_rows,
        cache=None if cache is None else str(cache),
        say=say,
        progress=progress,
    )
    report = _report(subject, *_answers(subject)) | {"asked": request(data, features, likelihood_rows, changed)}
    write_atomically(run.report / "report.json", json.dumps(report, indent=1, allow_nan=False).encode())
    return report


def _loaded(run: Run, device: str, changes: Iterable[str] | Mapping[str, Any]) -> tuple[Model, dict[str, Any]]:
    """A run's model that samples as asked, its decoder included, and what of that is not the recipe's."""
    model = load(run, device)
    own, how = model.config.sampling.model_dump(mode="json"), sampling_of(model, changes)
    model.config = model.config.model_copy(update={"sampling": how})
    return model, {name: value for name, value in how.model_dump(mode="json").items() if value != own[name]}


def request(
    data: str | None = None,
    features: str = "auto",
    likelihood_rows: int = 1024,
    sampling: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What an evaluation was asked for beside its samples: one that was asked for something else is not it."""
    return {"data": data, "features": features, "likelihood_rows": likelihood_rows, "sampling": sampling or {}}


def _answers(subject: Subject) -> tuple[list[Answer], dict[str, str]]:
    """The answers to all questions; and what could not be measured, with the reason."""
    keep_freed_memory()
    answers, failed = [], {}
    for question in questions():
        try:
            figures = question.measure(subject)
            answers.append(Answer(question.text, {k: f for k, f in figures.items() if math.isfinite(f.estimate.value)}))
            broken = [f.title for f in figures.values() if not math.isfinite(f.estimate.value)]
            if broken:
                failed[question.name] = f"{', '.join(broken)}: not a finite number"
        except ReverieError as error:
            failed[question.name] = str(error)
        except Exception as error:  # a model may raise anything: the other answers must not go with it
            failed[question.name] = f"{type(error).__name__}: {(str(error) or 'no reason').splitlines()[0]}"
    with contextlib.suppress(ReverieError):  # without samples there is no picture of them
        pictures.samples(subject.run, subject.drawn.first, subject.dataset)
    return answers, failed


def _data(run: Run, model: Model, data: str | None, say: Callable[[str], None]) -> Dataset:
    config = dict(run.recipe.data)
    if data is not None:
        config |= {"source": data, "condition": "picture" if model.space.picture else "none"}
    dataset = open_data(DataConfig.read(config, "data"))
    if data is not None and model.space.classes and dataset.classes:
        dataset = open_data(DataConfig.read({**config, "condition": "label"}, "data"))
    if dataset.space.shape != model.space.shape:
        raise RequestError(f"the data's rows are {dataset.space.shape}, the model's {model.space.shape}")
    if model.space.classes and dataset.classes and dataset.classes != read_model_header(run.model_file)[2]:
        raise RequestError("the data's classes are not those the model was trained with; measure it against the latter")
    if len(dataset.train) < 2:
        raise RequestError(f"{len(dataset.train)} training row is too few to measure against")
    for note in dataset.notes if data is not None else ():  # rows of another size or colour were changed to the model's
        say(note)
    return dataset


def _report(subject: Subject, answers: list[Answer], failed: dict[str, str]) -> dict[str, Any]:
    run, dataset, features = subject.run, subject.dataset, subject.features
    recipe = run.recipe
    return {
        "reverie": reverie.__version__,
        "run": run.folder.resolve().name,
        "model_sha256": sha256(run.model_file),
        "recipe": recipe.name,
        "summary": recipe.summary,
        "samples": subject.count,
        "seed": subject.seed,
        "space": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(subject.model.space).items()},
        "data": {
            "source": dataset.config.source,
            "hash": dataset.rows_hash,
            "train": len(dataset.train),
            "held_out": len(dataset.held_out),
            "classes": list(dataset.classes[:1000]),
            "notes": list(dataset.notes),
        },
        "features": {
            "name": features.name,
            "size": features.size,
            "statement": features.statement,
            "key": features.key,
        },
        "questions": [
            {"question": answer.question, "figures": list(answer.figures)} for answer in answers if answer.figures
        ],
        "figures": {name: figure.to_json() for answer in answers for name, figure in answer.figures.items()},
        "failed": failed,
        "left_out": subject.left_out,
        "findings": [finding.to_json() for finding in diagnose(run)],
    }
