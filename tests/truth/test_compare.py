"""A comparison from end to end on points, what it keeps, how it fails, and its page's marks against hand-made rows."""

import json
from pathlib import Path
from typing import Any

import pytest

import reverie
from reverie.core.errors import RequestError
from reverie.core.run import Run
from reverie.data import DataConfig, open_data
from reverie.evaluation import compare as module
from reverie.evaluation.compare import Row, differences
from reverie.evaluation.measures import cost
from reverie.evaluation.pareto import pareto_front
from reverie.report.charts import Axis, Series, lines, scatter
from reverie.report.comparison import Entry, best, write_comparison
from reverie.training.flops import flops_per_image


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "TIMED", 0.0)
    monkeypatch.setattr(module, "QUICK", 32)


def run(folder: Path, *models: str, said: list[str] | None = None, **more: Any) -> dict[str, Any]:
    say = (lambda line: None) if said is None else said.append
    options = {"images": 256, "samples": 128, "changes": ["train.grids=0", "train.batch=32"], **more}
    return reverie.compare("ring", models, out=folder, cache=folder / "cache", say=say, **options)


def test_what_is_done_is_kept_and_a_failure_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    first = run(tmp_path, "vae", "acgan", said=said)
    vae, acgan = first["rows"]
    assert vae["error"] is None
    assert acgan["error"] is None
    assert (vae["images"], vae["seed"]) == (256, 0)
    assert [look["fraction"] for look in vae["learning"]] == list(module.MOMENTS)
    assert [look["images"] for look in vae["learning"]] == sorted(look["images"] for look in vae["learning"])
    assert sum("measuring" in line for line in said) == 2
    said.clear()
    monkeypatch.setattr(module, "train", None)  # nothing may be trained again, nor measured
    again = run(tmp_path, "vae", "acgan", said=said)
    assert said == []
    assert again == first
    monkeypatch.undo()
    page = write_comparison(tmp_path).read_text(encoding="utf-8")
    assert all(part in page for part in ("vae", "acgan", "real rows", "Pareto"))
    # The next model of the same comparison, which breaks while it is trained.
    monkeypatch.setattr(cost, "TIMED", 0.0)

    def breaks(model: str, *rest: Any, **more: Any) -> Run:
        raise RuntimeError(f"{model} <b>broke</b>")

    monkeypatch.setattr(module, "train", breaks)
    third = run(tmp_path, "vae", "lsgan", said=said)
    assert "lsgan, seed 0: RuntimeError: lsgan <b>broke</b>" in said
    assert [row["error"] for row in third["rows"]] == [None, "RuntimeError: lsgan <b>broke</b>"]
    page = write_comparison(tmp_path).read_text(encoding="utf-8")
    assert "lsgan &lt;b&gt;broke&lt;/b&gt;" in page
    assert "<b>broke" not in page


def test_a_stopped_comparison_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tmp_path / "whole", "vae")
    looked = module._Contest._look
    looks: list[float] = []

    def stops(self: Any, run: Run, fraction: float) -> None:
        looked(self, run, fraction)
        looks.append(fraction)
        if len(looks) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(module._Contest, "_look", stops)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", "vae")
    resumed = run(tmp_path / "stopped", "vae")
    assert looks == list(module.MOMENTS)
    ours, theirs = (found["rows"][0]["report"]["figures"] for found in (resumed, whole))
    for name in ("frechet_distance", "coverage", "bits_per_dim"):
        assert ours[name]["value"] == theirs[name]["value"], name


def test_runs_that_differ_are_warned_about(tmp_path: Path) -> None:
    runs = []
    for source in ("ring", "grid"):
        made = reverie.train("vae", source, out=tmp_path / source, images=64, changes={"train.batch": 32}, quiet=True)
        runs.append(made.folder)
    found = reverie.compare(runs=runs, samples=128, out=tmp_path / "both", cache=tmp_path, say=lambda line: None)
    (warning,) = found["warnings"]
    assert "different data (ring, grid)" in warning
    page = write_comparison(tmp_path / "both").read_text(encoding="utf-8")
    assert 'class="warning"' in page
    distances = page[page.index("How far is") : page.index("What training cost")]
    assert 'class="best"' not in distances[: distances.index("</table>")]


def test_a_budget_of_flops_becomes_images(tmp_path: Path) -> None:
    dataset = open_data(DataConfig(source="ring"))
    changes = {"train.batch": 8, "train.images": 8, "train.time": None}
    each = flops_per_image("vae", dataset, changes)
    found = run(tmp_path, "vae", images=None, flops=each * 320)
    assert found["rows"][0]["images"] == 320
    assert found["rows"][0]["flops"] == pytest.approx(each * 320, rel=0.01)
    # Three linear maps of a generator and a discriminator written out: forward, and backward twice its cost but for
    # the first layer's input.
    options = {"model.generator": {"name": "mlp", "width": 16, "depth": 1}, "model.latent": 4, "train.batch": 8}
    options |= {"model.discriminator": {"name": "mlp", "width": 16, "depth": 1}, "train.images": 8, "train.time": None}
    g = [4 * 16, 16 * 2]
    d = [2 * 16, 16 * 1]
    in_d = 2 * (2 * sum(d)) + (2 * sum(g)) + 2 * (2 * sum(d) + 2 * d[1])  # both sides, and G's forward pass
    in_g = 2 * sum(d) + 2 * sum(d) + 2 * sum(g) + 2 * g[1]  # D forward, back to x; G's weights, back through
    assert flops_per_image("gan", dataset, options) == pytest.approx(in_d + in_g, rel=0.02)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"models": ()}, "name what to compare"),
        ({"models": ("vae", "vae"), "images": 1}, "twice"),
        ({"models": ("vea",), "images": 1}, "did you mean 'vae'"),
        ({"models": ("vae",)}, "one budget"),
        ({"models": ("vae",), "images": 1, "time": "1s"}, "not time and images"),
        ({"models": ("vae",), "images": 1, "data": None}, "--data is missing"),
        ({"models": ("vae",), "images": 1, "data": "nope"}, "no data 'nope'"),
        ({"models": ("vae",), "runs": ("x",), "images": 1}, "not both"),
    ],
)
def test_requests_that_cannot_be_met(more: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=message):
        reverie.compare(**{"data": "ring", "out": tmp_path, **more})


def test_another_comparison_needs_another_folder(tmp_path: Path) -> None:
    there = {"settings": {"data": "moons", "budget": {"time": None, "images": 9}}, "rows": [{"report": {"data": {}}}]}
    (tmp_path / "comparison.json").write_text(json.dumps(there))
    with pytest.raises(RequestError, match="whose data is moons; give another --out"):
        run(tmp_path, "vae")
    there["settings"]["data"] = "ring"
    (tmp_path / "comparison.json").write_text(json.dumps(there))
    with pytest.raises(RequestError, match="whose budget is images 9"):
        run(tmp_path, "vae")


@pytest.mark.parametrize("text", ["{bad", "[]", '{"rows": [3], "settings": {}}'])
def test_a_damaged_comparison_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "comparison.json").write_text(text)
    with pytest.raises(RequestError, match=r"comparison\.json is damaged: remove it"):
        run(tmp_path, "vae")


def test_what_no_model_can_do_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    out = tmp_path / "new"
    for more, message in (
        ({"images": None, "time": "-5s"}, "--time"),
        ({"images": None, "time": "abc"}, "not a duration"),
        ({"changes": ["model.nonsense=3"]}, "unknown key 'model.nonsense'"),
    ):
        with pytest.raises(RequestError, match=message):
            run(out, "vae", **more)
    with pytest.raises(RequestError, match="no run at"):
        reverie.compare(runs=[tmp_path / "none"], out=out)
    with pytest.raises(RequestError, match="trained already"):
        reverie.compare(runs=[tmp_path / "none"], out=out, time="5s")
    assert not out.exists()


def test_a_comparison_without_a_figure_may_be_replaced_and_runs_may_join(tmp_path: Path) -> None:
    module._settle(tmp_path, {"data": "ring"})
    file = tmp_path / "comparison.json"
    file.write_text(json.dumps({"settings": {"data": "moons"}, "rows": [{"report": {}}]}))
    module._settle(tmp_path, {"data": "ring"})
    file.write_text(json.dumps({"settings": {"data": None, "runs": ["a"]}, "rows": [{"report": {"data": {}}}]}))
    module._settle(tmp_path, {"data": None, "runs": ["b", "a"]})
    with pytest.raises(RequestError, match="whose runs is a; give"):
        module._settle(tmp_path, {"data": None, "runs": ["b"]})


def test_a_damaged_report_is_measured_again(tmp_path: Path) -> None:
    first = run(tmp_path, "vae")
    report = Run(first["rows"][0]["run"]).report / "report.json"
    report.write_text("{")
    said: list[str] = []
    again = run(tmp_path, "vae", said=said)
    assert said == ["vae, seed 0: measuring"]
    values = [found["rows"][0]["report"]["figures"]["frechet_distance"]["value"] for found in (first, again)]
    assert values[0] == values[1]


def test_a_report_of_other_data_is_no_report_of_these(tmp_path: Path) -> None:
    first = run(tmp_path, "vae")
    folder = Run(first["rows"][0]["run"])
    report = json.loads((folder.report / "report.json").read_text())
    for other in ({"data": "moons"}, {"features": "random"}, {"likelihood_rows": 2}):
        changed = {**report, "asked": {**report["asked"], **other}}
        (folder.report / "report.json").write_text(json.dumps(changed))
        said: list[str] = []
        run(tmp_path, "vae", said=said)
        assert said == ["vae, seed 0: measuring"]
    write_comparison(tmp_path)
    assert (folder.report / "report.html").is_file(), "a run's page is of what was measured last"


def test_pareto_front_by_hand() -> None:
    points = [(1.0, 5.0), (2.0, 4.0), (3.0, 1.0), (2.0, 5.0), (3.0, 1.0)]
    assert pareto_front(points, ("lower", "lower")) == [0, 1, 2, 4]
    assert pareto_front(points, ("higher", "higher")) == [2, 3, 4]
    assert pareto_front(points, ("lower", "higher")) == [0]


def entry(model: str, *values: tuple[float, float, float], recipe: str = "r", better: str = "lower") -> Entry:
    def row(value: float, low: float, high: float) -> dict[str, Any]:
        figure = {"value": value, "low": low, "high": high, "better": better, "unit": "", "real": None}
        figure["recipe"] = recipe
        return {"report": {"figures": {"d": figure}}, "model": model}

    return Entry(model, 0, [row(*v) for v in values])


def test_the_best_is_marked_where_intervals_lie_apart() -> None:
    assert best([entry("a", (1, 0.9, 1.1)), entry("b", (2, 1.5, 2.5))], "d") == "a"
    assert best([entry("a", (1, 0.9, 1.6)), entry("b", (2, 1.5, 2.5))], "d") is None
    # A second seed of training that reaches the other model's interval takes the mark away.
    assert best([entry("a", (1, 0.9, 1.1), (1.7, 1.6, 1.8)), entry("b", (2, 1.5, 2.5))], "d") is None
    assert best([entry("a", (1, 0.9, 1.1))], "d") is None
    # Of another recipe, or capped in one of them: nobody is the best.
    assert best([entry("a", (1, 0.9, 1.1)), entry("b", (2, 1.5, 2.5), recipe="s")], "d") is None
    assert best([entry("a", (1, 0.9, 1.1)), entry("b", (2, 1.5, 2.5), better="")], "d") is None
    assert entry("a", (1, 0.9, 1.1), (2, 1.9, 2.1)).mean("d") == 1.5


def test_differences_name_what_differs() -> None:
    def row(recipe: str) -> Row:
        figure = {"title": "Distance", "recipe": recipe}
        return Row("m", 0, "r", report={"figures": {"d": figure}})

    assert differences([row("a | b | c"), row("a | b | c")]) == []
    (sentence,) = differences([row("a | 100 samples | c"), row("a | 200 samples | c")])
    assert "Distance" in sentence
    assert "100 samples / 200 samples" in sentence


def test_charts_place_points_where_they_belong() -> None:
    series = [Series("<a>", 0, [(1.0, 10.0), (100.0, 1000.0)]), Series("b", 1, [(10.0, 100.0)])]
    for drawn in (lines(series, Axis("x", "", True), Axis("y", "lower", True)), scatter(series, Axis("x"), Axis("y"))):
        assert "&lt;a&gt;" in drawn
        assert drawn.count("<circle") == 3
    log = lines(series, Axis("x", "", True), Axis("y", "lower", True))
    places = [float(part.split('"')[0]) for part in log.split('cx="')[1:]]
    assert places[2] == pytest.approx((places[0] + places[1]) / 2)  # ten is half-way from one to a hundred
