"""Memory of an evaluation as samples grow: the most that a process of its own held, from 10,000 samples to a million.

    python benchmarks/evaluator_memory.py [--counts 10000 100000 1000000]

A vae of digits, trained for a few seconds: what it draws does not matter here. Linux only (it reads /proc). Writes
``benchmarks/results/evaluator_memory.json``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from pathlib import Path

import reverie

ROOT = Path(__file__).resolve().parents[1]
RESULTS, RUN = ROOT / "benchmarks" / "results" / "evaluator_memory.json", ROOT / "runs" / "evaluator-memory"


def peak(count: int) -> tuple[float, float, dict[str, str]]:
    """MiB and seconds of an evaluation in this process, and what could not be measured."""
    begun = time.perf_counter()
    report = reverie.evaluate(RUN, samples=count, say=lambda line: None)
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024, time.perf_counter() - begun, report["failed"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
    asked = parser.parse_args()
    reverie.train("vae", "digits", out=RUN, images=6_400, quiet=True)
    found = {}
    for count in asked.counts:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            mib, seconds, failed = pool.apply(peak, (count,))
        found[count] = {"peak_mib": round(mib), "seconds": round(seconds, 1), "failed": failed}
        print(count, found[count], flush=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
