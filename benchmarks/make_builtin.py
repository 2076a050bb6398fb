"""Makes the embedded data sets from MNIST's four files and the emoji sheets.

    python benchmarks/make_builtin.py ../shared/data

The result stands in ``src/reverie/data/builtin``; running this again gives the same bytes.
"""

from __future__ import annotations

import gzip
import json
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np

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


def main() -> None:
    shared = Path(sys.argv[1])
    BUILTIN.mkdir(parents=True, exist_ok=True)
    digits(shared / "mnist")
    emoji(shared / "emoji")
    for file in sorted(BUILTIN.iterdir()):
        print(f"{file.stat().st_size:>9,} {file.name}")


if __name__ == "__main__":
    main()
