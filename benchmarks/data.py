"""Speed and memory of the data part (W10): decoding, reading the packed cache, peak memory by number of images.

    python benchmarks/data.py [--quick]

Writes ``benchmarks/results/data.json``. Pictures are synthetic: smooth colour noise, 512x512 JPEG of quality 90.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from reverie.data import DataConfig, Feed, open_data
from reverie.data.decode import decode
from reverie.data.packed import Mapped
from reverie.data.parallel import ordered, worker_count
from reverie.data.transform import Transform

RESULTS = Path(__file__).resolve().parent / "results" / "data.json"
BATCH = 64


def jpeg(seed: int, size: int) -> bytes:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
    grain = np.asarray(smooth).astype(np.int16) + generator.integers(-8, 9, (size, size, 1))
    stream = io.BytesIO()
    Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def decode_full(raw: bytes) -> int:
    return int(decode(raw, Transform(size=64, channels=3))[0, 0, 0])


def decode_draft(raw: bytes) -> int:
    return int(decode(raw, Transform(size=64, channels=3, draft=True))[0, 0, 0])


def rate(count: int, work: object, rounds: int = 3) -> float:
    """Images a second, the best of some rounds: others share this machine."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        work()  # type: ignore[operator]
        best = min(best, time.perf_counter() - start)
    return round(count / best)


def decoding(count: int) -> dict[str, float]:
    raws = [jpeg(k % 64, 512) for k in range(count)]
    found = {
        "one thread": rate(count, lambda: [decode_full(raw) for raw in raws]),
        "threads": rate(count, lambda: list(ordered(decode_full, raws))),
        "threads, draft": rate(count, lambda: list(ordered(decode_draft, raws))),
    }
    with ProcessPoolExecutor(worker_count()) as pool:
        list(pool.map(decode_full, raws[:8]))  # started before the clock is
        found["processes"] = rate(count, lambda: list(pool.map(decode_full, raws, chunksize=16)))
    return found


def reading(folder: Path, count: int) -> dict[str, float]:
    """Shuffled batches of 64 from a pack of 64x64 RGB, as the trainer gets them."""
    rows = np.random.default_rng(0).integers(0, 256, (count, 3, 64, 64), dtype=np.uint8)
    rows.tofile(folder / "rows.bin")
    mapped = Mapped(folder / "rows.bin", (3, 64, 64))
    order = np.random.default_rng(1).permutation(count)
    images = folder / "images"
    images.mkdir()
    for k in range(2048):
        Image.fromarray(rows[k].transpose(1, 2, 0)).save(images / f"{k:05d}.bmp")

    def feed_rate(**settings: object) -> float:
        dataset = open_data(DataConfig(source=str(images), held_out=0.0, **settings), folder / "cache")
        feed = Feed(dataset, seed=0)
        feed.batch(0, BATCH)

        def epoch() -> None:
            for first in range(0, 4096, BATCH):
                feed.batch(first, BATCH)  # let go at once, as a trainer does: memory is used again

        return rate(4096, epoch, rounds=12)

    def bytes_only() -> None:
        for i in range(0, count, BATCH):
            mapped(order[i : i + BATCH])

    return {
        "mapped bytes": rate(count, bytes_only),
        "feed": feed_rate(),
        "feed, flip": feed_rate(flip=True),
        "feed, flip and random crop": feed_rate(flip=True, crop="random"),
    }


def peak_memory(folder: Path, count: int) -> dict[str, float]:
    """A fresh process packs ``count`` files and reads an epoch; its peak, in MiB."""
    images = folder / f"images-{count}"
    images.mkdir()
    shared = [jpeg(k, 64) for k in range(64)]
    for k in range(count):  # other bytes each: a comment after the end of the picture
        (images / f"{k:06d}.jpg").write_bytes(shared[k % 64] + b"%06d" % k)
    command = [sys.executable, str(Path(__file__).resolve()), "--child", str(images), str(folder / f"cache-{count}")]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def status() -> dict[str, float]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {
        line.split(":")[0]: round(int(line.split()[1]) / 1024, 1) for line in lines if line.startswith(("Vm", "Rss"))
    }


def child(images: str, cache: str) -> None:
    import reverie.data  # noqa: F401 (what every run has loaded)

    torch.set_num_threads(1)
    before = status()["VmHWM"]
    start = time.perf_counter()
    dataset = open_data(DataConfig(source=images, size=64, flip=True), Path(cache))
    packed, packing = status()["VmHWM"], time.perf_counter() - start
    feed = Feed(dataset, 0)
    for first in range(0, len(dataset.train), BATCH):
        feed.batch(first, BATCH)
    after = status()
    print(
        json.dumps(
            {
                "libraries": before,
                "peak after packing": packed,
                "peak after an epoch": after["VmHWM"],
                "packing seconds": round(packing, 1),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--child", nargs=2)
    given = parser.parse_args()
    if given.child:
        child(*given.child)
        return
    torch.set_num_threads(worker_count())
    small, large = (500, 5_000) if given.quick else (2_000, 50_000)
    with tempfile.TemporaryDirectory() as folder:
        results = {
            "machine": {
                "processors": worker_count(),
                "platform": sys.platform,
                "torch": torch.__version__,
                "others' load at the start": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
            },
            "decode 512x512 JPEG to 64x64, images/s": decoding(100 if given.quick else 400),
            "read 64x64 RGB, batches of 64, images/s": reading(Path(folder), 20_000),
        }
        if os.path.exists("/proc/self/status"):
            results["peak memory in MiB, by images"] = {
                str(count): peak_memory(Path(folder), count) for count in (small, large)
            }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
