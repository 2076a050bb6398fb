"""The run's page: one file with everything in it, to open, send or print."""

from __future__ import annotations

import base64
import io
import json
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from reverie.core.errors import RequestError
from reverie.core.files import write_atomically
from reverie.core.run import Run
from reverie.core.space import Space
from reverie.evaluation.figure import interval, readable
from reverie.report.citations import bibtex, papers_of
from reverie.report.curves import draw, read_curves, short
from reverie.report.filmstrip import filmstrip


def write_page(run: str | Path | Run) -> Path:
    """Writes ``report/report.html`` from what ``evaluate`` found.

    Arguments:
        run: a run folder.

    Raises:
        RequestError: the run has not been evaluated.
    """
    run = run if isinstance(run, Run) else Run(run)
    found = run.report / "report.json"
    if not found.is_file():
        raise RequestError(f"{run.folder} has not been evaluated: reverie evaluate {run.folder}")
    report: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
    space = Space(**{**report["space"], "shape": tuple(report["space"]["shape"])})
    body = "\n".join(
        [
            _header(run, report),
            _samples(run, report, space),
            _failed(report),
            *(_figures(q["question"], [report["figures"][name] for name in q["figures"]]) for q in report["questions"]),
            _neighbours(run),
            _worst(run),
            _reconstructions(run, report),
            _film(run, space),
            _curves(run),
            findings([("", report.get("findings", []))]),
            _provenance(run, report),
        ]
    )
    css = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report['run'])}</title>\n<style>\n{css}</style>\n</head>\n<body>\n<main>\n{body}\n"
        f"<footer>Written by Reverie {escape(report['reverie'])}.</footer>\n</main>\n</body>\n</html>\n"
    )
    out = run.report / "report.html"
    write_atomically(out, page.encode())
    return out


def _header(run: Run, report: dict[str, Any]) -> str:
    data, events = report["data"], list(run.journal())
    seconds, images = (max((e[name] for e in events if name in e), default=0) for name in ("seconds", "images"))
    own = run.recipe.data.get("source", data["source"])
    facts = [
        ("model", report["recipe"]),
        ("data", own),
        *([("measured against", data["source"])] if own != data["source"] else []),
        ("rows", f"{data['train']:,} to train on, {data['held_out']:,} held out"),
        ("size", " × ".join(map(str, report["space"]["shape"]))),
    ]
    if report["space"]["classes"]:
        facts.append(("classes", f"{report['space']['classes']:,}"))
    drawn = report.get("asked", {}).get("sampling", {})
    if drawn:
        facts.append(("drawn with", ", ".join(f"{name}={_short(value)}" for name, value in drawn.items())))
    if images:
        facts.append(("seen", f"{images:,} images"))
    if seconds:
        facts.append(("trained", duration(seconds)))
    items = "".join(f"<li>{escape(name)} <b>{escape(str(value))}</b></li>" for name, value in facts)
    summary = report["summary"]
    summary = f"{summary[:1].upper()}{summary[1:]}."
    return (
        f'<header>\n<h1>{escape(report["run"])}</h1>\n<p class="soft">{escape(summary)}</p>\n'
        f'<ul class="facts">{items}</ul>\n</header>'
    )


def _short(value: Any) -> str:
    """A setting as one would write it."""
    if not isinstance(value, dict):
        return str(value)
    options = " ".join(f"{name}={option}" for name, option in value.items() if name != "name")
    return f"{value['name']} ({options})" if options else str(value["name"])


def _samples(run: Run, report: dict[str, Any], space: Space) -> str:
    picture = run.report / "samples.png"
    if not picture.is_file():
        return ""
    if space.is_image:
        text = f"The first 64 samples of seed {report['seed']}, none left out."
        return f'<h2>Samples</h2>\n<p class="soft">{text}</p>\n<figure class="frame">{embedded(picture)}</figure>'
    data = embedded(run.report / "data.png", "the data") + "<figcaption>data</figcaption>"
    drawn = embedded(picture, "the samples") + "<figcaption>samples</figcaption>"
    return f'<h2>Samples</h2>\n<div class="pair"><figure>{drawn}</figure><figure>{data}</figure></div>'


def _neighbours(run: Run) -> str:
    above, below = run.report / "neighbours-samples.png", run.report / "neighbours-training.png"
    if not above.is_file() or not below.is_file():
        return ""
    return (
        "<h2>Nearest training images</h2>\n"
        '<p class="soft">Below each sample stand the training images closest to it in pixels, the closest first. '
        "A sample that equals one of them was copied; one that does not was made.</p>\n"
        f'<figure class="frame"><figcaption>samples</figcaption>{embedded(above, "samples")}'
        f"<figcaption>their nearest training images</figcaption>{embedded(below, 'nearest training images')}</figure>"
    )


def _worst(run: Run) -> str:
    above, below = run.report / "neighbours-worst-samples.png", run.report / "neighbours-worst-training.png"
    if not above.is_file() or not below.is_file():
        return ""
    return (
        "<h2>The likeliest copies</h2>\n"
        '<p class="soft">The samples that come closest to a training image, for how close such images lie to each '
        "other, and those training images.</p>\n"
        f'<figure class="frame"><figcaption>samples</figcaption>{embedded(above, "the likeliest copies")}'
        f"<figcaption>their nearest training images</figcaption>{embedded(below, 'nearest training images')}</figure>"
    )


def _reconstructions(run: Run, report: dict[str, Any]) -> str:
    picture = run.report / "reconstructions.png"
    if not picture.is_file():
        return ""
    whose = "Held-out images" if report["data"]["held_out"] else "Training images (none are held out)"
    return (
        f'<h2>Encoded and decoded</h2>\n<p class="soft">{whose}, and below each what is left of it after '
        f'encoding and decoding.</p>\n<figure class="frame">{embedded(picture, "reconstructions")}</figure>'
    )


def _film(run: Run, space: Space) -> str:
    strip = filmstrip(run, space)
    if strip is None:
        return ""
    moments = "".join(f"<span>{short(images)}</span>" for images in strip.images)
    what = (
        "Each row is one noise, sampled again and again"
        if space.is_image
        else "The same noise, sampled again and again"
    )
    return (
        f'<h2>As training went</h2>\n<p class="soft">{what}; below: images seen so far.</p>\n'
        f'<figure class="frame">{embedded(strip.picture, "samples during training")}'
        f'<div class="moments">{moments}</div></figure>'
    )


def _curves(run: Run) -> str:
    curves = read_curves(run.journal())
    if not curves:
        return ""
    figures = "".join(f"<figure><figcaption>{escape(c.name)}</figcaption>{draw(c)}</figure>" for c in curves)
    return (
        '<h2>Curves</h2>\n<p class="soft">Over images seen. The axis leaves out how the first twentieth began.</p>\n'
        f'<div class="curves">{figures}</div>'
    )


def findings(found: list[tuple[str, list[dict[str, Any]]]]) -> str:
    """What the doctor says of each of some runs; empty where it says nothing.

    Arguments:
        found: a run's name, empty where there is one only, and its findings as JSON.
    """
    items = []
    for name, some in found:
        for one in some:
            change = f"<br>try <code>{escape(' '.join(one['change']))}</code>" if one["change"] else ""
            title = f"{name}: {one['name']}" if name else one["name"]
            kind, sure = escape(one["kind"]), f"{one['sure']:.0%} sure"
            seen = f"{escape(one['seen'])}.{change}"
            items.append(f'<li class="{kind}"><b>{escape(title)}</b> ({kind}, {sure}): {seen}</li>')
    return f'<h2>What the training doctor says</h2>\n<ul class="findings">{"".join(items)}</ul>' if items else ""


def _figures(question: str, figures: list[dict[str, Any]]) -> str:
    return f'<h2>{escape(question)}</h2>\n<div class="cards">{"".join(map(_card, figures))}</div>'


def _failed(report: dict[str, Any]) -> str:
    missing = {**report["failed"], **report.get("left_out", {})}
    if not missing:
        return ""
    items = "".join(f"<li><b>{escape(name)}</b>: {escape(why)}</li>" for name, why in missing.items())
    return f'<h2>Not measured</h2>\n<ul class="failed">{items}</ul>'


def _card(figure: dict[str, Any]) -> str:
    arrow = {"lower": "lower is better", "higher": "higher is better"}.get(figure["better"], "")
    number, unit = readable(figure["value"], figure["unit"])
    between = f'<span class="between">{escape(interval(figure))}</span>' if figure["low"] is not None else ""
    real = ""
    if figure["real"] is not None:
        value, same = readable(figure["real"]["value"], figure["unit"])
        spread = interval({**figure["real"], "unit": figure["unit"]})
        real = f'<div class="real">real rows: {escape(value)} {escape(same)} {escape(spread)}</div>'
    return (
        f'<div class="card"><h3>{escape(figure["title"])}<span>{arrow}</span></h3>'
        f'<div class="value">{escape(number)}<span class="unit">{escape(unit)}</span>{between}</div>{real}'
        f"<p>{escape(figure['meaning'])}</p><small>{escape(figure['note'])}</small></div>"
    )


def duration(seconds: float) -> str:
    """Seconds as ``4 min 10 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (rest if not hours else 0, "s")]
    return " ".join(f"{value} {unit}" for value, unit in parts if value) or "0 s"


def _provenance(run: Run, report: dict[str, Any]) -> str:
    recipe = run.recipe
    notes = "".join(f"<li>{escape(note)}</li>" for note in report["data"]["notes"])
    papers = [bibtex(paper) for paper in recipe.papers] + [bibtex(paper) for paper in papers_of(report["figures"])]
    entries = "\n\n".join(papers)
    follows = f"<p>It follows {escape(recipe.follows)}.</p>\n" if recipe.follows else ""
    return (
        f"<h2>How it was made</h2>\n{follows}"
        f"<p>Distances are on {escape(report['features']['statement'])}.</p>\n"
        f"<details><summary>Data</summary><ul>{notes}</ul>"
        f"<small>hash {escape(report['data']['hash'])}</small></details>\n"
        f"<details><summary>Recipe (<code>reverie train recipe.yaml</code> repeats the run)</summary>"
        f"<pre>{escape(run.recipe_file.read_text(encoding='utf-8'))}</pre></details>\n"
        f"<details><summary>Citations</summary><pre>{escape(entries)}</pre></details>"
    )


def embedded(picture: Path | Image.Image, alt: str = "samples") -> str:
    """A picture inside the page itself; small ones are shown with their pixels as squares."""
    if isinstance(picture, Path):
        if not picture.is_file():
            return ""
        content = picture.read_bytes()
        with Image.open(io.BytesIO(content)) as opened:
            size = opened.size
    else:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", optimize=True)
        content, size = buffer.getvalue(), picture.size
    data = base64.b64encode(content).decode()
    look = ' class="pixels"' if size[0] < 1032 else ""
    return f'<img{look} width="{size[0]}" height="{size[1]}" alt="{escape(alt)}" src="data:image/png;base64,{data}">'
