"""How well samples keep to the edges they were asked to have: F1 with ControlNet, and of its base without it.

    python benchmarks/control.py BASE_RUN [--data digits] [--time 10m] [--rows 500]

Edges of held-out rows are given, those of the samples are found anew and held against them (``maths/edges.py``, within
one pixel). The base draws from the same noise and labels, and sees no edges: what agreement chance gives.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

import reverie
from reverie.core.batch import Condition
from reverie.core.images import save_grid
from reverie.data import DataConfig, open_data
from reverie.evaluation.subject import shuffled
from reverie.maths.edges import edge_agreement, edges

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PICTURES, RUNS = ROOT / "benchmarks" / "results", ROOT / "docs" / "pictures", ROOT / "runs" / "control"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--time", default="10m")
    parser.add_argument("--rows", type=int, default=500)
    given = parser.parse_args()
    out = RUNS / f"{given.base.name}-{given.time}"
    changes = {"base": f"run:{given.base}"}
    run = reverie.train("controlnet", given.data, out=out, time=given.time, changes=changes)
    dataset = open_data(DataConfig(source=given.data))
    real, condition = dataset.held_out.take(shuffled(len(dataset.held_out))[: given.rows])
    wanted = edges(real)
    asked = Condition(label=condition.label, image=wanted)
    free = reverie.sample(reverie.load(given.base), len(real), labels=condition.label).x
    drawn = reverie.sample(reverie.load(run), len(real), condition=asked).x

    def agreement(x: Tensor) -> float:
        return round(float(edge_agreement(edges(x), wanted).mean()), 4)

    found = {"controlled": agreement(drawn), "base": agreement(free)}
    print(found)
    rows = torch.stack([x[:10] for x in (wanted.expand_as(real), drawn, free, real)])
    save_grid(rows.flatten(0, 1), PICTURES / "control.png", columns=10, scale=2)
    record = {"data": given.data, "time": given.time, "rows": len(real), "edge_f1": found}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "control.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
