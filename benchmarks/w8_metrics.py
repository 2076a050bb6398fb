"""W8: metrics on 10,000 x 2,048 features beside the reference programs, on the same features, in one run.

    python benchmarks/w8_metrics.py              # all of it, some four minutes
    python benchmarks/w8_metrics.py kernel       # one part; the others stay as they were

Needs torch-fidelity, pytorch-fid, prdc, torchmetrics, scikit-learn and POT, and torchvision or a stand-in of that
name, which none of the functions called here uses. Writes ``benchmarks/results/w8_metrics.json``. Times are the best of
a few where they are short; memory is a process's of its own, less what the features take.
"""

from __future__ import annotations

import json
import multiprocessing
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ot
import prdc
import torch
from pytorch_fid.fid_score import calculate_frechet_distance
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import NearestNeighbors
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from reverie.evaluation.coverage import coverage
from reverie.evaluation.frechet import frechet_distance
from reverie.evaluation.inception_score import inception_score
from reverie.evaluation.kernel import squared_mmd
from reverie.evaluation.memorisation import memorisation
from reverie.evaluation.moments import Moments
from reverie.evaluation.neighbours import nearest
from reverie.evaluation.similarity import psnr, ssim
from reverie.evaluation.wasserstein import exact_wasserstein, sliced_wasserstein

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
    metrics, slow = timed(lambda: float(_compute_fid(one.mean, one.covariance, two.mean, two.covariance)))
    found |= {"torchmetrics": metrics, "torchmetrics_seconds": slow, "times_as_fast_as_torchmetrics": slow / mine}
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
    theirs, their = timed(lambda: kid_features_to_metric(x, y, **options), 5)
    order = np.random.RandomState(2020)
    pairs = [(order.choice(ROWS, 1000, replace=False), order.choice(ROWS, 1000, replace=False)) for _ in range(20)]
    ours, mine = timed(lambda: np.mean([float(squared_mmd(x[i], y[j])) for i, j in pairs]), 5)
    reference = theirs["kernel_inception_distance_mean"]
    return {
        "ours": float(ours),
        "torch_fidelity": reference,
        "relative_difference": abs(ours - reference) / abs(reference),
        "ours_seconds": mine,
        "torch_fidelity_seconds": their,
        "times_as_fast": their / mine,
    }


def resident(field: str) -> float:
    """MiB by the kernel's count: VmRSS, what is held; VmHWM, the most since the count was set back."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def peak(which: str) -> float:
    """MiB that a computation of neighbours takes on top of two sets of features in float32, in this very process."""
    x, y = features(ROWS, 1, 0.0), features(ROWS, 2, 0.05)
    coverage(x[:50], y[:50], 5)  # libraries come in
    prdc.compute_prdc(x[:50].numpy(), y[:50].numpy(), 5)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    if which == "ours":
        coverage(x, y, 5)
    else:
        prdc.compute_prdc(x.numpy(), y.numpy(), 5)
    return resident("VmHWM") - before


def in_a_process(which: str) -> float:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return float(pool.apply(peak, (which,)))


def neighbours() -> dict[str, Any]:
    x, y = features(ROWS, 1, 0.0), features(ROWS, 2, 0.05)
    ours, mine = timed(lambda: coverage(x, y, 5))
    theirs, their = timed(lambda: prdc.compute_prdc(x.numpy(), y.numpy(), 5))
    memory = {f"{which}_mib": in_a_process(which) for which in ("ours", "prdc")}
    values = {name: getattr(ours, name).value for name in ("precision", "recall", "density", "coverage")}
    return {
        "ours": values,
        "prdc": {k: float(v) for k, v in theirs.items()},
        "largest_difference": max(abs(values[name] - theirs[name]) for name in values),
        "ours_seconds": mine,
        "prdc_seconds": their,
        "times_as_fast": their / mine,
        **memory,
    }


def others() -> dict[str, Any]:
    """The relative difference from torchmetrics, POT and scikit-learn on smaller sets."""
    x, y = features(400, 1, 0.0).double(), features(400, 2, 0.05).double()
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(8, 3, 40, 40, generator=generator, dtype=torch.float64)
    noisy = (images + 0.1 * torch.randn(images.shape, generator=generator)).clamp(0, 1)
    full = structural_similarity_index_measure(noisy, images, data_range=1.0, return_full_image=True)[1]
    cost = {p: ot.dist(x.numpy(), y.numpy(), "euclidean") ** p for p in (1, 2)}
    weights = np.full(400, 1 / 400)
    directions = torch.randn(SIZE, 512, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lines = (directions / directions.norm(dim=0)).numpy()
    gaussian = [rbf_kernel(a, b, gamma=0.5 / 20.0**2) for a, b in ((x, x), (y, y), (x, y))]
    among = [(k.sum() - np.trace(k)) / (400 * 399) for k in gaussian[:2]]
    tree = NearestNeighbors(n_neighbors=3, algorithm="brute").fit(x.numpy())
    near, far = torch.rand(300, generator=generator), torch.rand(200, generator=generator) + 0.1
    labels, places = np.r_[np.ones(300), np.zeros(200)], -np.r_[near.numpy(), far.numpy()]
    pairs = {
        "kernel, torchmetrics": (squared_mmd(x, y), poly_mmd(x, y)),
        "kernel of a Gaussian, scikit-learn": (squared_mmd(x, y, 20.0), sum(among) - 2 * gaussian[2].mean()),
        "W1, POT": (exact_wasserstein(x, y, 1), ot.emd2(weights, weights, cost[1])),
        "W2, POT": (exact_wasserstein(x, y, 2), ot.emd2(weights, weights, cost[2]) ** 0.5),
        "sliced W2, POT": (
            sliced_wasserstein(x, y),
            ot.sliced_wasserstein_distance(x.numpy(), y.numpy(), projections=lines),
        ),
        "PSNR, torchmetrics": (
            psnr(2 * images - 1, 2 * noisy - 1).mean(),
            peak_signal_noise_ratio(noisy, images, 1.0, reduction="none", dim=(1, 2, 3)).mean(),
        ),
        # Theirs reflects the border; ours is of windows inside the image, as the paper's.
        "SSIM, torchmetrics": (ssim(2 * images - 1, 2 * noisy - 1).mean(), full[..., 5:-5, 5:-5].mean()),
        "neighbours, scikit-learn": (nearest(y, [x], 3).distance.sum(), tree.kneighbors(y.numpy())[0].sum()),
        "memorisation, scikit-learn": (memorisation(near, far).nearer.value, roc_auc_score(labels, places)),
    }
    return {name: abs(float(ours) - float(theirs)) / abs(float(theirs)) for name, (ours, theirs) in pairs.items()}


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
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found |= {"machine": f"{platform.machine()}, {torch.get_num_threads()} threads"}
    cases = {
        "others_differ_by": others,
        "inception_score": score,
        "kernel": kernel,
        "frechet_full_rank": lambda: frechet(ROWS),
    }
    cases |= {"frechet_rank_deficient": lambda: frechet(1000), "neighbours": neighbours}
    for name in sys.argv[1:] or cases:
        found[name] = cases[name]()
        print(name, json.dumps(found[name]), flush=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
