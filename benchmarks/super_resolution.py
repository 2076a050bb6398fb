"""Fourfold enlargement of held-out images: a diffusion model, a regression of the same network and time, and bicubic.

    python benchmarks/super_resolution.py [--data emoji] [--time 10m] [--rows 1000]

The diffusion model should win the feature distance and lose the PSNR: the mean of all that fits has the least squared
error, and is blurred where they differ. Writes ``benchmarks/results/super_resolution.json`` and, to docs/pictures, a
strip of what was seen, bicubic's, the regression's and the model's images, and the real ones.

References:
    | Image Super-Resolution via Iterative Refinement (Saharia et al., 2021), Tables 2 and 3
    | https://arxiv.org/abs/2104.07636
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import reverie
from reverie.core.batch import Condition
from reverie.core.capabilities import Observes
from reverie.core.images import from_bytes, save_grid, to_bytes
from reverie.core.noise import KeyedNoise
from reverie.data import DataConfig, open_data
from reverie.evaluation.features.features import Features, choose_features
from reverie.evaluation.frechet import frechet_distance
from reverie.evaluation.moments import Moments
from reverie.evaluation.similarity import psnr, ssim
from reverie.evaluation.subject import shuffled

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PICTURES, RUNS = (
    ROOT / "benchmarks" / "results",
    ROOT / "docs" / "pictures",
    ROOT / "runs" / "super-resolution",
)
ENTRANTS: dict[str, dict[str, Any]] = {
    "sr3": {},
    "regression": {"model.regression": True},
}


def moments(x: Tensor, features: Features) -> Moments:
    found = Moments(features.size)
    for part in x.split(500):
        found.add(features.extract(part))
    return found


def judged(x: Tensor, real: Tensor, features: Features) -> dict[str, float]:
    x = from_bytes(to_bytes(x))
    return {
        "psnr": round(float(psnr(x, real).clamp(max=60).mean()), 3),
        "ssim": round(float(ssim(x, real).mean()), 4),
        "frechet": round(frechet_distance(moments(x, features), moments(real, features)), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="emoji")
    parser.add_argument("--time", default="10m")
    parser.add_argument("--rows", type=int, default=1000)
    given = parser.parse_args()
    dataset = open_data(DataConfig(source=given.data))
    features = choose_features(dataset)
    index = shuffled(len(dataset.held_out))[: given.rows]
    real, condition = dataset.held_out.take(index)
    found, restored = {}, {}
    for name, changes in ENTRANTS.items():
        out = RUNS / f"{name}-{given.data.replace(':', '-')}-{given.time}"
        model = reverie.load(reverie.train("sr3", given.data, out=out, time=given.time, changes=changes))
        observes = model.view(Observes)
        assert observes is not None
        seen = observes.observe(real, KeyedNoise(0, torch.arange(len(real))))
        asked = Condition(label=condition.label, image=seen)
        restored |= {"bicubic": seen, name: reverie.sample(model, len(real), condition=asked).x}
    for name, x in restored.items():
        found[name] = judged(x, real, features)
        print(f"{name:12s} {found[name]}")
    rows = [restored["bicubic"], restored["regression"], restored["sr3"], real]
    save_grid(torch.stack([x[:8] for x in rows]).flatten(0, 1), PICTURES / "super_resolution.png", columns=8, scale=3)
    record = {"data": given.data, "time": given.time, "rows": len(real), "features": features.key, "found": found}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "super_resolution.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
