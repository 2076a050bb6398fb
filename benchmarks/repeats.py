"""Do figures repeat within their intervals? Runs are evaluated from three sampling seeds, and figures held together.

    python benchmarks/repeats.py RUN ...

Two estimates of the same figure, each with a 95 % interval of half-width h, differ by less than sqrt(h1^2 + h2^2) in
about 95 of 100 cases. Writes ``benchmarks/results/repeats.json``; evaluations that are done are kept in runs/repeats.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
from pathlib import Path

from reverie import evaluate

ROOT = Path(__file__).resolve().parents[1]
RESULTS, RUNS = ROOT / "benchmarks" / "results" / "repeats.json", ROOT / "runs" / "repeats"
SEEDS = (0, 1, 2)
TIMED = ("images_per_second", "seconds_alone", "training_time")
SAME_ROWS = ("bits_per_dim", "bits_per_dim_train", "bits_per_dim_importance", "psnr", "ssim", "feature_error")


def evaluated(run: Path, seed: int) -> dict:
    copy = RUNS / f"{run.parent.parent.name}-{run.name}-{seed}"
    report = copy / "report" / "report.json"
    if not report.is_file():
        copy.mkdir(parents=True, exist_ok=True)
        for name in ("model.safetensors", "recipe.yaml", "journal.jsonl"):
            shutil.copyfile(run / name, copy / name)
        evaluate(copy, seed=seed, likelihood_rows=64, say=lambda line: None)  # likelihoods are not compared
    return json.loads(report.read_text())


def held_together(reports: list[dict]) -> dict[str, object]:
    figures = {}
    for name in reports[0]["figures"]:
        found = [report["figures"][name] for report in reports]
        # Of the same held-out rows whatever the seed: nothing, or only a draw of z, differs.
        if name in TIMED + SAME_ROWS or any(f["low"] is None or f["high"] is None for f in found):
            continue
        halves = [(f["high"] - f["low"]) / 2 for f in found]
        pairs = [
            abs(a["value"] - b["value"]) <= (h**2 + k**2) ** 0.5 + 1e-12
            for (a, h), (b, k) in itertools.combinations(zip(found, halves, strict=True), 2)
        ]
        figures[name] = {"values": [f["value"] for f in found], "half_widths": halves, "pairs_within": sum(pairs)}
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for run in parser.parse_args().runs:
        name = f"{run.parent.parent.name}/{run.name}"
        figures = held_together([evaluated(run, seed) for seed in SEEDS])
        within, pairs = sum(f["pairs_within"] for f in figures.values()), 3 * len(figures)
        results[name] = {"pairs": pairs, "within": within, "figures": figures}
        print(f"{name}: {within} of {pairs} pairs within their intervals", flush=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
