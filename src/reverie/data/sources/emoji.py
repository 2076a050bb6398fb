"""The embedded emoji: 1,906 of them, 32×32 on white, in four aligned drawings.

A drawing style is a domain: ``emoji`` trains on OpenMoji's colour, ``emoji:noto`` on Noto's, ``emoji:all`` on all four;
a draw may ask for any of them. All drawings of one emoji stand on that side of the split where OpenMoji's colour is.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator

import numpy as np
from PIL import Image

from reverie.core.errors import RequestError, nearest
from reverie.data.pool import Facts
from reverie.data.source import Described, Pixels
from reverie.data.sources.digits import BUILTIN
from reverie.data.split import digests_of

STYLES = ("openmoji", "openmoji-line", "noto", "twemoji")
SIZE, COLUMNS = 32, 48  # of a tile, and tiles a row of the sheet


def emoji_source(style: str = "") -> Pixels:
    """The embedded emoji; their groups (smileys, flags, food …) are the labels.

    Arguments:
        style: the drawing to train on; empty for ``openmoji``, ``all`` for all.

    Raises:
        RequestError: there is no such style.
    """
    style = style or STYLES[0]
    if style not in (*STYLES, "all"):
        raise RequestError(f"no emoji style '{style}'{nearest(style, [*STYLES, 'all'])}")
    raw = (BUILTIN / "emoji.jsonl.gz").read_bytes()
    rows = [json.loads(line) for line in gzip.decompress(raw).decode("utf-8").splitlines()]
    count, styles = len(rows), len(STYLES)
    classes = tuple(sorted({row["group"] for row in rows}))
    facts = Facts(
        labels=np.tile(np.array([classes.index(row["group"]) for row in rows], dtype=np.int64), styles),
        classes=classes,
        domains=np.repeat(np.arange(styles), count),
        domain_names=STYLES,
        main="" if style == "all" else style,
    )
    lines = [json.dumps({**row, "domain": name, "index": i}) for name in STYLES for i, row in enumerate(rows)]
    digests = np.tile(digests_of(_tiles(STYLES[0], count)), (styles, 1))

    def chunks() -> Iterator[np.ndarray]:
        for name in STYLES:
            yield _tiles(name, count)

    content = hashlib.blake2b(raw, digest_size=16)
    for name in STYLES:
        content.update((BUILTIN / f"emoji-{name}.png").read_bytes())
    shape = (3, SIZE, SIZE)
    return Pixels(
        "built-in emoji",
        content.hexdigest(),
        shape,
        count * styles,
        chunks,
        Described(facts, lines),
        digests,
        {"line": STYLES[1]},
    )


def _tiles(style: str, count: int) -> np.ndarray:
    """A sheet cut into its first ``count`` tiles, uint8 ``[count, 3, 32, 32]``."""
    with Image.open(BUILTIN / f"emoji-{style}.png") as image:
        sheet = np.asarray(image.convert("RGB"))
    tiles = sheet.reshape(sheet.shape[0] // SIZE, SIZE, COLUMNS, SIZE, 3).transpose(0, 2, 4, 1, 3)
    return tiles.reshape(-1, 3, SIZE, SIZE)[:count]
