"""Does double backward in bf16 cost quality? r3gan on digits without labels, in bf16 and in float32, equal images.

    python benchmarks/precision.py bf16 | fp32 [--images 100000] [--seed 0]

Writes ``benchmarks/results/precision.json``: what the judge says of 10,000 samples, and images a second.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from judge import Court

import reverie
from reverie.core.images import save_grid

ROOT = Path(__file__).resolve().parents[1]
RUNS, RESULTS = ROOT / "runs" / "precision", ROOT / "benchmarks" / "results" / "precision.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("precision", choices=["bf16", "fp32"])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    out = RUNS / f"{asked.precision}-{asked.images}-{asked.seed}"
    changes = ["data.condition=none", f"train.precision={asked.precision}", f"train.seed={asked.seed}"]
    run = reverie.train("r3gan", "digits", out=out, images=asked.images, changes=changes, quiet=True)
    x = reverie.sample(reverie.load(run), 10_000, seed=0, precision="fp32").x
    save_grid(x[:64], out.with_suffix(".png"), 8, 2)
    court = Court()
    found = court.measure(x, torch.full((len(x),), -1))
    spent = [event["seconds"] for event in run.journal() if event.get("event") == "done"][-1]
    about = {"images": asked.images, "images_per_second": asked.images / spent, "threads": torch.get_num_threads()}
    found |= court.relative(found) | about
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    results.setdefault(asked.precision, {})[str(asked.seed)] = found
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
