"""The embedded handwritten digits: 10,000 to train on and 2,000 held out, from MNIST's train and test files.

References:
    | Gradient-based learning applied to document recognition (LeCun et al., 1998)
    | https://doi.org/10.1109/5.726791
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from reverie.data.source import Pixels
from reverie.data.sources.idx import idx_source

BUILTIN = Path(__file__).resolve().parent.parent / "builtin"


def digits_source() -> Pixels:
    """The embedded digits, 28×28 grey, labels 0 to 9, 1,000 and 200 of each."""
    part = "digits-{}-images-idx3-ubyte.gz"
    source = idx_source(BUILTIN / part.format("train"), BUILTIN / part.format("t10k"))
    return replace(source, kind="built-in digits")
