"""Makes the embedded data sets from MNIST's four files, the emoji sheets and the avatars.

    python benchmarks/make_builtin.py ../shared/data

The result stands in ``src/reverie/data/builtin``; running this again gives the same bytes.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

BUILTIN = Path(__file__).resolve().parent.parent / "src" / "reverie" / "data" / "builtin"
STYLES = ("openmoji", "openmoji-line", "noto", "twemoji")


def read_idx(file: Path) -> np.ndarray:
    raw = gzip.decompress(file.read_bytes())
    dimensions = raw[3]
    shape = struct.unpack(f">{dimensions}I", raw[4 : 4 + 4 * dimensions])
    return np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def write_idx(file: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    file.write_bytes(gzip.compress(header + array.tobytes(), 9, mtime=0))


def digits(mnist: Path) -> None:
    """The same number of each digit, drawn at random once, in the original order."""
    generator = np.random.Generator(np.random.Philox(key=2))
    for part, each in (("train", 1000), ("t10k", 200)):
        images = read_idx(mnist / f"{part}-images-idx3-ubyte.gz")
        labels = read_idx(mnist / f"{part}-labels-idx1-ubyte.gz")
        drawn = [generator.choice(np.flatnonzero(labels == k), each, replace=False) for k in range(10)]
        chosen = np.sort(np.concatenate(drawn))
        write_idx(BUILTIN / f"digits-{part}-images-idx3-ubyte.gz", images[chosen])
        write_idx(BUILTIN / f"digits-{part}-labels-idx1-ubyte.gz", labels[chosen])


def emoji(folder: Path) -> None:
    """The sheets as they are, and one line of names, tags and group for each emoji."""
    with zipfile.ZipFile(folder / "emoji-64.zip") as archive:
        lines = archive.read("metadata.jsonl").decode().splitlines()
    rows = sorted((row for row in map(json.loads, lines) if row["domain"] == STYLES[0]), key=lambda row: row["index"])
    keep = ("hexcode", "emoji", "text", "tags", "group", "subgroup")
    text = "".join(json.dumps({k: row[k] for k in keep}, ensure_ascii=False) + "\n" for row in rows)
    (BUILTIN / "emoji.jsonl.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    for style in STYLES:
        (BUILTIN / f"emoji-{style}.png").write_bytes((folder / f"emoji-32-{style}.png").read_bytes())
    licence = (folder / "LICENSE-openmoji-CC-BY-SA-4.0.txt").read_bytes()
    (BUILTIN / "emoji-LICENSE-openmoji-CC-BY-SA-4.0.txt").write_bytes(licence)


def avatars(folder: Path) -> None:
    """The first 3,600 faces and, to be held out, the last 400: places in a palette of each face's own colours."""
    numbers = [*range(3600), *range(9600, 10_000)]
    images, palettes = np.empty((4000, 64, 64), np.uint8), np.zeros((4000, 32, 3), np.uint8)
    with zipfile.ZipFile(folder / "avatars-64.zip") as archive:
        rows = [json.loads(line) for line in archive.read("metadata.jsonl").decode().splitlines()]
        for i, number in enumerate(numbers):
            with Image.open(io.BytesIO(archive.read(f"images/{number:05d}.png"))) as image:
                pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
            colours, places = np.unique(pixels, axis=0, return_inverse=True)
            palettes[i, : len(colours)], images[i] = colours, places.reshape(64, 64)
    write_idx(BUILTIN / "avatars-images-idx3-ubyte.gz", images)
    write_idx(BUILTIN / "avatars-palettes-idx3-ubyte.gz", palettes)
    kept = [{"index": number, **{k: v for k, v in rows[number].items() if k != "file_name"}} for number in numbers]
    assert all(rows[number]["file_name"] == f"images/{number:05d}.png" for number in numbers)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
    (BUILTIN / "avatars.jsonl.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    (BUILTIN / "avatars-LICENSE.txt").write_bytes((folder / "LICENSE").read_bytes())


def main() -> None:
    shared = Path(sys.argv[1])
    BUILTIN.mkdir(parents=True, exist_ok=True)
    digits(shared / "mnist")
    emoji(shared / "emoji")
    avatars(shared / "avatars")
    for file in sorted(BUILTIN.iterdir()):
        print(f"{file.stat().st_size:>9,} {file.name}")


if __name__ == "__main__":
    main()
