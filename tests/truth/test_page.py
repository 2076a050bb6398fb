"""The run's page: self-contained, escaped, its curves and film-strip against numbers known beforehand."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reverie.core.errors import RequestError
from reverie.core.images import save_grid
from reverie.core.recipe import Recipe
from reverie.core.run import Run
from reverie.core.space import Space
from reverie.evaluation.figure import Estimate, Figure, readable
from reverie.report.curves import bounds, read_curves, short, smoothed, ticks
from reverie.report.filmstrip import filmstrip
from reverie.report.page import duration, write_page

PICTURES = ("samples", "neighbours-samples", "neighbours-training")
EVIL = "<script>alert('x')</script>&\""


def evaluated_run(folder: Path) -> Run:
    run = Run(folder)
    run.report.mkdir(parents=True)
    run.samples.mkdir()
    papers = [{"title": "T <b>", "authors": "Ada and Bob", "year": 2020, "url": "https://arxiv.org/abs/1"}]
    recipe = Recipe(name="toy", summary=EVIL, papers=papers, model={"name": "vae"}, data={"source": EVIL})
    run.recipe_file.write_text(recipe.to_yaml())
    events = [{"event": "log", "round": i, "images": 64 * i, "values": {f"a/{EVIL}": 10 / i}} for i in range(1, 40)]
    run.journal_file.write_text("".join(json.dumps(e) + "\n" for e in events))
    figure = Figure(
        f"Distance {EVIL}", Estimate(3.25, 3.0, 3.5), EVIL, "frechet", "lower", real=Estimate(1.5), note=EVIL
    )
    report = {
        "reverie": "0",
        "run": EVIL,
        "recipe": "toy",
        "summary": EVIL,
        "samples": 4,
        "seed": 0,
        "space": {"shape": [1, 8, 8], "levels": None, "depth": 256, "classes": 0, "count": 9},
        "data": {"source": EVIL, "hash": "ab", "train": 9, "held_out": 3, "classes": [EVIL], "notes": [EVIL]},
        "features": {"name": "random", "size": 2, "statement": EVIL},
        "questions": [{"question": EVIL, "figures": ["frechet_distance"]}],
        "figures": {"frechet_distance": figure.to_json()},
        "failed": {"likelihood": EVIL},
    }
    (run.report / "report.json").write_text(json.dumps(report))
    for shade, name in enumerate(PICTURES):
        save_grid(torch.full((4, 1, 8, 8), shade / 4), run.report / f"{name}.png")
    return run


class Reader(HTMLParser):
    """Collects tags, attributes and text; counts open tags."""

    VOID = ("meta", "img", "line", "rect", "path")

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_holds_everything_and_runs_nothing(tmp_path: Path) -> None:
    run = evaluated_run(tmp_path / "run")
    for images in (10, 200):
        save_grid(torch.zeros(4, 1, 8, 8), run.samples / f"{images:010d}.png", 2, scale=9)
    text = write_page(run).read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert "script" not in reader.tags
    assert len([tag for tag in reader.tags if tag == "img"]) == 4
    assert len([tag for tag in reader.tags if tag == "svg"]) == 1
    inside = [base64.b64encode((run.report / f"{name}.png").read_bytes()).decode() for name in PICTURES]
    assert [link.split(",")[1] for link in reader.links[:3]] == inside
    assert all(link.startswith("data:image/png;base64,") for link in reader.links)  # nothing is fetched
    assert reader.text.count(EVIL) >= 8  # as text, unharmed
    for part in ("3.25", "3 … 3.5", "1.5", "heusel2017gans", "@article{ada2020", "10", "200"):
        assert part in reader.text


def test_page_needs_an_evaluation(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="reverie evaluate"):
        write_page(tmp_path)


def test_curves_read_the_journal(tmp_path: Path) -> None:
    events = [
        {"event": "start"},
        {"event": "log", "images": 1, "values": {"loss": 4.0}},
        {"event": "log", "images": 5, "values": {"loss": 2.0, "late": 1.0}},
        {"event": "log", "images": 9, "values": {"loss": float("nan"), "late": 3.0}},
    ]
    loss, late = read_curves(events)
    assert (loss.name, loss.images, loss.values) == ("loss", [1.0, 5.0], [4.0, 2.0])
    assert (late.name, late.images, late.values) == ("late", [5.0, 9.0], [1.0, 3.0])


def test_smoothing_and_ticks_by_hand() -> None:
    assert smoothed([5.0, 5.0, 5.0], 10) == pytest.approx([5.0, 5.0, 5.0])  # bias-corrected from the first value
    assert smoothed([1.0, 2.0], 2) == pytest.approx([1.0, (0.25 * 1 + 0.5 * 2) / 0.75])
    assert smoothed([1.0, 9.0], 1) == [1.0, 9.0]
    assert ticks(0.0, 1.0) == [0.0, 0.5, 1.0]
    assert ticks(-7.0, 130.0) == [0.0, 50.0, 100.0]
    assert bounds([1000.0] + [1.0] * 10 + [2.0] * 29)[1] < 3  # the fall at the start does not set the axis
    assert [short(v) for v in (12_345.0, 0.5, 2e6)] == ["12.3k", "0.5", "2M"]


def test_readable_numbers() -> None:
    assert readable(0.9731, "share") == ("97.3", "%")
    assert readable(0.0123, "s") == ("12.3", "ms")
    assert readable(1_234_567.0, "") == ("1,234,567", "")
    assert readable(2.34567, "bits") == ("2.35", "bits")
    assert [duration(s) for s in (0.2, 59.6, 250, 3720)] == ["0 s", "1 min", "4 min 10 s", "1 h 2 min"]


@pytest.mark.parametrize("channels", [1, 3])
def test_filmstrip_takes_each_grid_apart(tmp_path: Path, channels: int) -> None:
    run = Run(tmp_path)
    moments = torch.rand(3, 7, channels, 10, 6) * 2 - 1
    for i, x in enumerate(moments):
        save_grid(x, run.samples / f"{1000 * i:010d}.png", columns=4, scale=64 // 10 + 1)
    strip = filmstrip(run, Space((channels, 10, 6)))
    assert strip is not None
    assert strip.images == [0, 1000, 2000]
    sheet = np.asarray(strip.picture)
    for i in range(3):
        for row in range(6):
            tile = sheet[row * 12 : row * 12 + 10, i * 8 : i * 8 + 6].transpose(2, 0, 1)
            expected = ((moments[i, row] + 1) * 127.5).round().byte().expand(3, 10, 6).numpy()
            assert np.array_equal(tile, expected)
    assert filmstrip(Run(tmp_path / "none"), Space((1, 8, 8))) is None


def test_no_file_but_the_page_is_left(tmp_path: Path) -> None:
    run = evaluated_run(tmp_path / "run")
    before = {file.name for file in run.report.iterdir()}
    page = write_page(run)
    assert {file.name for file in run.report.iterdir()} == before | {"report.html"}
    assert re.match(r"<!doctype html>", page.read_text(encoding="utf-8"))
    with Image.open(run.report / "samples.png") as picture:
        assert picture.size == (18, 18)
