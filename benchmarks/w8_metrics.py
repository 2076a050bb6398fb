"""W8: metrics on 10,000 x 2,048 features beside the reference programs, on the same features, in one run.

    python benchmarks/w8_metrics.py

Needs torch-fidelity, pytorch-fid and prdc, and torchvision or a stand-in of that name, which none of the functions
called here uses. Writes ``benchmarks/results/w8_metrics.json``.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import prdc
import torch
from pytorch_fid.fid_score import calculate_frechet_distance
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

from reverie.evaluation.coverage import coverage
from reverie.evaluation.frechet import frechet_distance
from reverie.evaluation.inception_score import inception_score
from reverie.evaluation.kernel import squared_mmd
from reverie.evaluation.moments import Moments

RESULTS = Path(__file__).with_name("results") / "w8_metrics.json"
ROWS, SIZE = 10_000, 2_048


def timed(run: Callable[[], Any], repeats: int = 1) -> tuple[Any, float]:
    best = float("inf")
    for _ in range(repeats):
        begun = time.perf_counter()
        found = run()
        best = min(best, time.perf_counter() - begun)
    return found, best


def features(rows: int, seed: int, shift: float) -> torch.Tensor:
    """Positive features whose variances fall by a thousand, as an extractor's do."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0)) / SIZE**0.5
    scale = torch.logspace(0, -1.5, SIZE)
    return (torch.randn(rows, SIZE, generator=generator) * scale @ mixing + 0.3 + shift).relu()


def frechet(rows: int) -> dict[str, Any]:
    x, y = features(ROWS, 1, 0.0), features(rows, 2, 0.05)
    one, two = Moments(SIZE).add(x), Moments(SIZE).add(y)
    ours, mine = timed(lambda: frechet_distance(one, two), 2)
    stats = [{"mu": m.mean.numpy(), "sigma": m.covariance.numpy()} for m in (one, two)]
    key = "frechet_inception_distance"
    fidelity, their = timed(lambda: fid_statistics_to_metric(*stats, False)[key])
    found = {"ours": ours, "ours_seconds": mine, "torch_fidelity": fidelity, "torch_fidelity_seconds": their}
    fid, old = timed(lambda: calculate_frechet_distance(*(s[k] for s in stats for k in ("mu", "sigma"))))
    found |= {"pytorch_fid": float(fid), "pytorch_fid_seconds": old}
    check = fid_features_to_statistics(y)
    found["statistics_differ_by"] = float(
        np.abs(check["sigma"] - stats[1]["sigma"]).max() / np.abs(check["sigma"]).max()
    )
    found["relative_difference"] = abs(ours - fidelity) / fidelity
    return found | {"times_as_fast_as_pytorch_fid": old / mine, "times_as_fast_as_torch_fidelity": their / mine}


def kernel() -> dict[str, Any]:
    """The same hundred subsets of a thousand rows: torch-fidelity draws them from a seeded generator."""
    x, y = features(ROWS, 1, 0.0), features(ROWS, 2, 0.05)
    options = {"kid_subsets": 20, "kid_subset_size": 1000, "kid_kernel": "poly", "verbose": False, "rng_seed": 2020}
    theirs, their = timed(lambda: kid_features_to_metric(x, y, **options))
    order = np.random.RandomState(2020)
    pairs = [(order.choice(ROWS, 1000, replace=False), order.choice(ROWS, 1000, replace=False)) for _ in range(20)]
    ours, mine = timed(lambda: np.mean([float(squared_mmd(x[i], y[j])) for i, j in pairs]))
    reference = theirs["kernel_inception_distance_mean"]
    return {
        "ours": float(ours),
        "torch_fidelity": reference,
        "relative_difference": abs(ours - reference) / abs(reference),
        "ours_seconds": mine,
        "torch_fidelity_seconds": their,
        "times_as_fast": their / mine,
    }


def neighbours() -> dict[str, Any]:
    x, y = features(ROWS, 1, 0.0), features(ROWS, 2, 0.05)
    ours, mine = timed(lambda: coverage(x, y, 5))
    theirs, their = timed(lambda: prdc.compute_prdc(x.double().numpy(), y.double().numpy(), 5))
    values = {name: getattr(ours, name).value for name in ("precision", "recall", "density", "coverage")}
    return {
        "ours": values,
        "prdc": {k: float(v) for k, v in theirs.items()},
        "largest_difference": max(abs(values[name] - theirs[name]) for name in values),
        "ours_seconds": mine,
        "prdc_seconds": their,
        "times_as_fast": their / mine,
    }


def score() -> dict[str, Any]:
    logits = 3.0 * torch.randn(ROWS, 1008, generator=torch.Generator().manual_seed(3))
    ours, mine = timed(lambda: inception_score(logits))
    theirs, their = timed(lambda: isc_features_to_metric(logits.double(), splits=1, shuffle=False))
    reference = theirs["inception_score_mean"]
    return {
        "ours": ours.value,
        "torch_fidelity": reference,
        "relative_difference": abs(ours.value - reference) / reference,
        "ours_seconds": mine,
        "torch_fidelity_seconds": their,
    }


def main() -> None:
    found: dict[str, Any] = {"machine": f"{platform.machine()}, {torch.get_num_threads()} threads, shared"}
    cases = {"inception_score": score, "kernel": kernel, "frechet_full_rank": lambda: frechet(ROWS)}
    cases |= {"frechet_rank_deficient": lambda: frechet(1000), "neighbours": neighbours}
    for name, case in cases.items():
        found[name] = case()
        print(name, json.dumps(found[name]), flush=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
