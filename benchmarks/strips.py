"""Every tool on pictures used on trained runs, as a user would: a sheet a run, of what each tool was given and made.

    python benchmarks/strips.py RUN [RUN ...] [--rows 5,8,0] [--out docs/pictures]

The tools are those of ``reverie edit --help``, run through the command line with their own defaults, or as named in
``TOOLS``. Writes ``<out>/edit-<run>.png``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib
from PIL import Image

matplotlib.use("agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
TWICE = ["-n", "2"]
TOOLS: dict[str, list[str]] = {
    "inpaint": ["--rows", "ROWS", "--box", "14,0,28,28", *TWICE],
    "inpaint method=dps": ["--rows", "ROWS", "--box", "14,0,28,28", *TWICE],
    "upscale factor=4": ["--rows", "ROWS", *TWICE],
    "deblur": ["--rows", "ROWS", *TWICE],
    "colourise": ["--rows", "ROWS", *TWICE],
    "sdedit strength=0.6": ["--rows", "ROWS", *TWICE],
    "vary strength=0.5": ["--rows", "ROWS", *TWICE],
    "invert": ["--rows", "ROWS"],
    "blend": ["--rows", "FIRST", "--to", "LAST"],
    "control": ["--rows", "ROWS", *TWICE],
    "ctrl-x": ["--rows", "FIRST", "--to", "LAST", *TWICE],
    "guide guidance=3": TWICE,
}


def used(run: Path, name: str, rows: str, file: Path) -> str | None:
    """Runs one tool; returns what it says where it refuses."""
    given = {"ROWS": rows, "FIRST": rows.split(",")[0], "LAST": rows.split(",")[-1]}
    tool, words = name.split()[0], [given.get(word, word) for word in TOOLS[name]]
    words += name.split()[1:]
    command = [sys.executable, "-m", "reverie", "edit", str(run), tool, *words, "-o", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else (done.stderr or done.stdout).strip().splitlines()[-1]


def sheet(pictures: dict[str, Image.Image], file: Path) -> None:
    """Strips in three columns, each under its name."""
    lines = -(-len(pictures) // 3)
    figure, axes = plt.subplots(lines, 3, figsize=(9, 2.0 * lines), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, picture) in zip(axes.T.flat, pictures.items(), strict=False):
        axis.imshow(picture, cmap="gray", interpolation="nearest")
        axis.set_title(name, fontsize=9)
    figure.tight_layout(pad=0.4)
    figure.savefig(file, dpi=90)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--rows", default="5,8,0")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    parser.add_argument("--only", nargs="+", choices=list(TOOLS), default=list(TOOLS), metavar="TOOL")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for run in asked.runs:
            pictures = {}
            for name in asked.only:
                file = Path(folder) / "strip.png"
                refused = used(run, name, asked.rows, file)
                print(f"{run.name} {name}: {refused or 'done'}", flush=True)
                if refused is None:
                    pictures[name] = Image.open(file).copy()
            sheet(pictures, asked.out / f"edit-{run.name}.png")


if __name__ == "__main__":
    main()
