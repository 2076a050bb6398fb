"""The page of a comparison: who is best at what, what it cost, and whether the difference is one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from reverie.core.errors import RequestError
from reverie.core.files import write_atomically
from reverie.evaluation.figure import interval, readable
from reverie.evaluation.pareto import pareto_front
from reverie.report.charts import Axis, Series, lines, scatter
from reverie.report.citations import bibtex, papers_of
from reverie.report.page import duration, embedded, findings, write_page

COLOURS = 8
TILES = 36  # samples shown of each model
CHARTS = (  # what is drawn against what, where at least two models have both
    ("Believable and varied", "coverage", "precision", False, False),
    ("Quality and speed", "images_per_second", "frechet_distance", True, True),
    ("Quality and likelihood", "bits_per_dim", "frechet_distance", False, True),
)


class Entry(NamedTuple):
    """A model with its rows, one for each seed of training."""

    model: str
    colour: int
    rows: list[dict[str, Any]]

    def figures(self, name: str) -> list[dict[str, Any]]:
        """A figure of each row that has it."""
        reports = [row["report"].get("figures", {}) for row in self.rows]
        return [report[name] for report in reports if name in report]

    def mean(self, name: str) -> float | None:
        """The mean over the seeds of training."""
        values = [figure["value"] for figure in self.figures(name)]
        return sum(values) / len(values) if values else None


def alike(entries: Sequence[Entry], name: str) -> bool:
    """Whether a figure is the same measure in all rows: of one recipe."""
    return len({figure["recipe"] for entry in entries for figure in entry.figures(name)}) <= 1


def write_comparison(folder: str | Path) -> Path:
    """Writes ``comparison.html`` from what ``compare`` found, and the page of each run that it measured.

    Arguments:
        folder: the comparison's.

    Raises:
        RequestError: nothing was compared there.
    """
    folder = Path(folder)
    file = folder / "comparison.json"
    if not file.is_file():
        raise RequestError(f"{folder} holds no comparison: reverie compare --data SOURCE --models a,b --time 5m")
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    for row in found["rows"]:
        if (Path(row["run"]) / "report" / "report.json").is_file():
            write_page(row["run"])
    entries = _entries(found["rows"])
    body = "\n".join(
        [
            _header(found, entries),
            *(f'<p class="warning">{escape(text)}</p>' for text in found["warnings"]),
            _samples(folder, entries),
            _charts(entries),
            *_boards(entries),
            _cost(entries),
            findings([(entry.model, entry.rows[0]["report"].get("findings", [])) for entry in entries]),
            _provenance(found, entries),
        ]
    )
    here = Path(__file__)
    css = "".join(here.with_name(name).read_text(encoding="utf-8") for name in ("page.css", "comparison.css"))
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(folder.resolve().name)}</title>\n<style>\n{css}</style>\n</head>\n<body>\n<main>\n{body}\n"
        f"<footer>Written by Reverie {escape(found['reverie'])}.</footer>\n</main>\n</body>\n</html>\n"
    )
    out = folder / "comparison.html"
    write_atomically(out, page.encode())
    return out


def _entries(rows: Sequence[dict[str, Any]]) -> list[Entry]:
    entries: dict[str, Entry] = {}
    paths = {row["run"] for row in rows}
    several = len(paths) > len({(row["model"], row["seed"]) for row in rows})  # runs of one recipe, each for itself
    for row in rows:
        name = Path(row["run"]).name if several else row["model"]
        entry = entries.setdefault(name, Entry(name, len(entries) % COLOURS, []))
        entry.rows.append(row)
    return list(entries.values())


def _header(found: dict[str, Any], entries: list[Entry]) -> str:
    settings = found["settings"]
    budget = next((f"{value} {name}" for name, value in settings["budget"].items() if value is not None), "")
    seeds = max(len(entry.rows) for entry in entries)
    facts = [("models", str(len(entries))), ("samples of each", f"{settings['samples']:,}")]
    facts += [("data", settings["data"])] if settings["data"] else []
    facts += [("budget of each", budget.replace(" time", ""))] if budget else []
    facts += [("seeds of training", str(seeds))] if seeds > 1 else []
    items = "".join(f"<li>{escape(name)} <b>{escape(str(value))}</b></li>" for name, value in facts)
    title = f"Models on {Path(settings['data']).name}" if settings["data"] else "Runs compared"
    text = "The same data, the same budget, the same evaluator." if budget else "The same evaluator for every run."
    return f'<header>\n<h1>{escape(title)}</h1>\n<p class="soft">{text}</p>\n<ul class="facts">{items}</ul>\n</header>'


def _samples(folder: Path, entries: list[Entry]) -> str:
    figures = []
    for entry in entries:
        picture = folder / f"{Path(entry.rows[0]['run']).name}.png"
        if picture.is_file():
            image = embedded(_cropped(picture, entry.rows[0]), f"samples of {entry.model}")
            figures.append(f"<figure><figcaption>{_dot(entry)}{escape(entry.model)}</figcaption>{image}</figure>")
    if not figures:
        return ""
    text = "The first samples of seed 0 of each, none left out; labels, where a model has them, as they were drawn."
    return f'<h2>Samples</h2>\n<p class="soft">{text}</p>\n<div class="grids">{"".join(figures)}</div>'


def _cropped(picture: Path, row: dict[str, Any]) -> Image.Image:
    """The grid of 16 columns laid out anew as a square of the first samples; points are left as they are."""
    with Image.open(picture) as opened:
        sheet = opened.convert("RGB")
    shape = row["report"].get("space", {}).get("shape", [])
    if len(shape) != 3:
        return sheet
    height, width = shape[1] + 2, shape[2] + 2
    columns, side = (sheet.width + 2) // width, int(TILES**0.5)
    count = min(TILES, columns * ((sheet.height + 2) // height))
    square = Image.new("RGB", (side * width - 2, -(-count // side) * height - 2), "white")
    for i in range(count):
        left, top = (i % columns) * width, (i // columns) * height
        tile = sheet.crop((left, top, left + width - 2, top + height - 2))
        square.paste(tile, ((i % side) * width, (i // side) * height))
    return square


def _boards(entries: list[Entry]) -> list[str]:
    """A table for each question, with the figures that have a better side."""
    questions: dict[str, list[str]] = {}
    for entry in entries:
        for row in entry.rows:
            for question in row["report"].get("questions", []):
                names = questions.setdefault(question["question"], [])
                names += [name for name in question["figures"] if name not in names]
    boards = []
    for question, names in questions.items():
        ranked = [n for n in names if any(f["better"] for entry in entries for f in entry.figures(n))]
        if ranked:
            boards.append(f'<h2>{escape(question)}</h2>\n<div class="wide">{_board(entries, ranked)}</div>')
    return boards or [f'<div class="wide">{_board(entries, [])}</div>']


def _board(entries: list[Entry], names: list[str]) -> str:
    firsts = {name: next(f for entry in entries for f in entry.figures(name)) for name in names}
    heads = "".join(
        f'<th title="{escape(first["meaning"], quote=True)}">{escape(first["title"])}<br>{_arrow(first["better"])}</th>'
        for first in firsts.values()
    )
    leaders = {name: best(entries, name) for name in names}
    body = []
    for entry in entries:
        cells = "".join(_cell(entry, name, leaders[name] == entry.model) for name in names)
        if not any(entry.figures(name) for name in names):
            why = next((row["error"] for row in entry.rows if row["error"]), "")
            look = "why" if why else "none"
            cells = f'<td class="{look}" colspan="{max(len(names), 1)}">{escape(why or "has none")}</td>'
        body.append(f"<tr><td>{_dot(entry)}<b>{escape(entry.model)}</b></td>{cells}</tr>")
    if any(first["real"] for first in firsts.values()):
        floors = "".join(_floor(first) if alike(entries, name) else "<td></td>" for name, first in firsts.items())
        body.append(f'<tr class="real"><td>real rows</td>{floors}</tr>')
    return f'<table class="board"><tr><th></th>{heads}</tr>{"".join(body)}</table>'


def best(entries: Sequence[Entry], name: str) -> str | None:
    """The model that is best in a figure, where its interval, and its seeds, lie apart from those of the next one.

    None where the figure is not the same measure in all rows, or has no better side in one of them.
    """
    if not alike(entries, name) or not all(f["better"] for entry in entries for f in entry.figures(name)):
        return None
    spans = []
    for entry in entries:
        found = entry.figures(name)
        if found and found[0]["better"]:
            sign = 1.0 if found[0]["better"] == "higher" else -1.0
            ends = [sign * v for f in found for v in (f["value"], f["low"], f["high"]) if v is not None]
            spans.append((sign * sum(f["value"] for f in found) / len(found), min(ends), max(ends), entry.model))
    spans.sort(reverse=True)
    if len(spans) < 2 or spans[0][1] <= max(span[2] for span in spans[1:]):
        return None
    return spans[0][3]


def _cell(entry: Entry, name: str, leads: bool) -> str:
    figures, mean = entry.figures(name), entry.mean(name)
    if mean is None:
        return "<td>–</td>"
    value, unit = readable(mean, figures[0]["unit"])
    notes = [interval(figures[0])] if len(figures) == 1 and interval(figures[0]) else []
    if len(figures) > 1:
        low, high = (readable(end(f["value"] for f in figures), figures[0]["unit"])[0] for end in (min, max))
        notes.append(f"{len(figures)} seeds: {low} … {high}")
        notes += [f"seed {entry.rows[0]['seed']}: {interval(figures[0])}"] if interval(figures[0]) else []
    small = "".join(f"<small>{escape(note)}</small>" for note in notes)
    look = ' class="best"' if leads else ""
    return f"<td{look}><b>{escape(value)}</b> {escape(unit)}{small}</td>"


def _floor(figure: Mapping[str, Any]) -> str:
    if figure["real"] is None:
        return "<td></td>"
    value, unit = readable(figure["real"]["value"], figure["unit"])
    spread = interval({**figure["real"], "unit": figure["unit"]})
    return f"<td>{escape(value)} {escape(unit)}<small>{escape(spread)}</small></td>"


def _charts(entries: list[Entry]) -> str:
    figures = [_learning(entries)]
    for title, x, y, log_x, log_y in CHARTS:
        known = [(entry, entry.mean(x), entry.mean(y)) for entry in entries]
        series = [Series(e.model, e.colour, [(a, b)]) for e, a, b in known if a is not None and b is not None]
        if len(series) < 2:
            continue
        one, two = (next(f for entry in entries for f in entry.figures(name)) for name in (x, y))
        points = [point for one_series in series for point in one_series.points]
        comparable = alike(entries, x) and alike(entries, y)
        front = [points[i] for i in pareto_front(points, (one["better"], two["better"]))] if comparable else []
        drawn = scatter(
            series, Axis(one["title"], one["better"], log_x), Axis(two["title"], two["better"], log_y), front
        )
        figures.append(f"<figure><figcaption>{escape(title)}</figcaption>{drawn}</figure>")
    shown = "".join(figures)
    text = "A dashed line joins the models that no other beats in both respects (the Pareto front)."
    return f'<h2>At a glance</h2>\n<p class="soft">{text}</p>\n<div class="charts">{shown}</div>' if shown else ""


def _learning(entries: list[Entry]) -> str:
    series = [
        Series(entry.model, entry.colour, [(max(look["seconds"], 0.1), look["frechet_distance"]) for look in looks])
        for entry in entries
        if (looks := entry.rows[0]["learning"])
    ]
    if not series:
        return ""
    drawn = lines(series, Axis("seconds of training", "", True), Axis("Fréchet distance", "lower", True))
    return f"<figure><figcaption>As training went</figcaption>{drawn}</figure>"


def _cost(entries: list[Entry]) -> str:
    body = []
    for entry in entries:
        row = entry.rows[0]
        cells = [
            duration(row["seconds"]) if row["seconds"] else "–",
            f"{row['images']:,}" if row["images"] else "–",
            f"{row['flops']:.3g}" if row["flops"] else "–",
            "with labels" if row["labelled"] else "without",
        ]
        shown = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        body.append(f"<tr><td>{_dot(entry)}<b>{escape(entry.model)}</b></td>{shown}</tr>")
    heads = "".join(f"<th>{name}</th>" for name in ("trained for", "images seen", "FLOPs", "labels"))
    table = f'<table class="board"><tr><th></th>{heads}</tr>{"".join(body)}</table>'
    return f'<h2>What training cost</h2>\n<div class="wide">{table}</div>'


def _provenance(found: dict[str, Any], entries: list[Entry]) -> str:
    reports = [row["report"] for entry in entries for row in entry.rows if row["report"]]
    statements = list(dict.fromkeys(report["features"]["statement"] for report in reports))
    about = "".join(f"<p>Distances are on {escape(statement)}.</p>" for statement in statements)
    figures = {name: figure for report in reports for name, figure in report["figures"].items()}
    named = {(f["title"], f["recipe"]): None for report in reports for f in report["figures"].values() if f["recipe"]}
    entries_ = "\n\n".join(bibtex(paper) for paper in papers_of(figures))
    recipes = "".join(f"<li>{escape(title)}: {escape(recipe)}</li>" for title, recipe in sorted(named))
    return (
        "<h2>How it was measured</h2>\n"
        "<p>Beside each figure stands its 95 % interval over redraws of the samples. With several seeds of training "
        "the figure is their mean, with their range and the interval of one of them. The best is marked where neither "
        "reaches the next best, and the figure is the same measure in all rows. Real rows are measured in place of "
        f"samples.</p>{about}"
        f"<details><summary>Recipes of the figures</summary><ul>{recipes}</ul></details>\n"
        f"<details><summary>Settings</summary><pre>{escape(json.dumps(found['settings'], indent=1))}</pre></details>\n"
        f"<details><summary>Citations</summary><pre>{escape(entries_)}</pre></details>"
    )


def _dot(entry: Entry) -> str:
    return f'<span class="dot c{entry.colour}"></span>'


def _arrow(better: str) -> str:
    return {"lower": "↓", "higher": "↑"}.get(better, "")
