"""What a source holds: counts, sizes, classes, copies, what is broken, a contact sheet, and advice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from reverie.core.files import check_file
from reverie.core.images import grid, save_png, to_bytes, to_pillow
from reverie.data.cache import cache_folder
from reverie.data.config import DataConfig
from reverie.data.dataset import Dataset, open_data
from reverie.data.maps import COMPUTED, beside
from reverie.data.pack import Progress
from reverie.data.pool import Skipped
from reverie.data.source import Drawn, Files, Pixels, Source
from reverie.data.sources import find_source
from reverie.data.split import DIGEST, digests_of
from reverie.data.survey import take_survey
from reverie.data.tags import Survey, survey

FEW = 1000  # rows under which models learn pictures by heart
FEW_A_CLASS = 50
SHEET = (8, 8)  # rows and columns of the contact sheet
CHUNK = 1024
READ = 10_000  # rows of the table that attributes are counted in
KINDS = 32  # values of an attribute, at most, and half as many as rows: what has more is a text or a number


@dataclass(frozen=True)
class Looks:
    """How images stand in their source, before any transform.

    Arguments:
        widths, heights: least, median and greatest, in pixels.
        formats: how many of each file format.
        grey, alpha: how many are grey, and how many have transparency.
        cropped: the mean share of the picture that the middle square leaves out.
        shorter_side: the median.
    """

    widths: tuple[int, int, int]
    heights: tuple[int, int, int]
    formats: dict[str, int]
    grey: int
    alpha: int
    cropped: float
    shorter_side: int


@dataclass(frozen=True)
class Report:
    """What ``reverie data`` says.

    Arguments:
        dataset: the source, opened.
        kind: in words.
        looks: of its images; None for points.
        classes: rows of each class, training and held-out ones; unknown labels under ``"unlabelled"``.
        domains: rows of each domain.
        attributes: of what the table says in a few words, how many of the first rows have each value; most frequent
            first.
        tags: of the first rows, as ``cgan-tags`` reads them; None where there is no table.
        maps: names that ``data.maps`` may have.
        copies: rows whose pixels another row has already.
        copied: names or places of some of them, with what they copy.
        broken: how many gave no row.
        skipped: the first of them, and why.
        advice: one sentence each.
    """

    dataset: Dataset
    kind: str
    looks: Looks | None
    classes: dict[str, int]
    domains: dict[str, int]
    attributes: dict[str, dict[str, int]]
    tags: Survey | None
    maps: tuple[str, ...]
    copies: int
    copied: tuple[tuple[str, str], ...]
    broken: int
    skipped: tuple[Skipped, ...]
    advice: tuple[str, ...]


def inspect(config: DataConfig, cache: Path | None = None, progress: Progress | None = None) -> Report:
    """Opens a source and looks at all of it.

    Arguments:
        config: the source, and what training would do to it.
        cache: where packs are kept.
        progress: called with (done, total) while images are read and decoded.

    Raises:
        RequestError: there is no such source, or nothing in it can be read.
    """
    dataset = open_data(config, cache, progress)
    pool = dataset.pool
    classes = _counts(pool.facts.labels, dataset.classes) if pool.facts.labels is not None else {}
    domains = _counts(pool.facts.domains, dataset.domains) if pool.facts.domains is not None else {}
    source = find_source(config.source)
    looks = _looks(source, cache)
    compares = dataset.space.is_image and not pool.facts.modes and not isinstance(source, Drawn)
    copies, copied = _copies(dataset) if compares else (0, ())
    removable = copies if isinstance(source, Files) else 0  # what is built in stays as it is
    tags = None if pool.facts.table is None else survey(pool.facts.table[:READ])
    advice = (*_advice(dataset, looks, classes, removable), *map(_sentence, tags.notes if tags else ()))
    return Report(
        dataset,
        pool.kind,
        looks,
        classes,
        domains,
        _attributes(pool.facts.table),
        tags,
        (*COMPUTED, *pool.maps) if dataset.space.is_image else (),
        copies,
        copied,
        pool.broken,
        pool.skipped,
        advice,
    )


def _sentence(note: str) -> str:
    return f"{note[0].upper()}{note[1:]}."


def _looks(source: Source, cache: Path | None) -> Looks | None:
    if isinstance(source, Pixels):
        channels, height, width = source.shape
        sides = np.full(source.count, width), np.full(source.count, height)
        return _measure(*sides, {source.kind: source.count}, source.count if channels == 1 else 0, 0)
    if not isinstance(source, Files):
        return None
    seen = take_survey(source, cache_folder(cache)).readable
    formats = Counter(name.decode() for name in seen["format"])
    return _measure(
        seen["width"], seen["height"], dict(formats.most_common()), int(seen["grey"].sum()), int(seen["alpha"].sum())
    )


def _measure(widths: np.ndarray, heights: np.ndarray, formats: dict[str, int], grey: int, alpha: int) -> Looks:
    shorter, longer = np.minimum(widths, heights), np.maximum(widths, heights)

    def spread(sides: np.ndarray) -> tuple[int, int, int]:
        return int(sides.min()), int(np.median(sides)), int(sides.max())

    cropped = float((1.0 - shorter / longer).mean())
    return Looks(spread(widths), spread(heights), formats, grey, alpha, cropped, int(np.median(shorter)))


def _counts(values: np.ndarray, names: tuple[str, ...]) -> dict[str, int]:
    counted = np.bincount(values[values >= 0], minlength=len(names))
    counts = {name: int(n) for name, n in zip(names, counted, strict=True)}
    unknown = int((values < 0).sum())
    return {**counts, "unlabelled": unknown} if unknown else counts


def _attributes(table: Sequence[dict[str, Any]] | None) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    texts: set[str] = set()
    for row in table[:READ] if table is not None else ():
        for key, value in row.items():
            if key in texts or not isinstance(value, str | bool | None):
                continue
            named = value if isinstance(value, str) else {True: "yes", False: "no", None: "none"}[value]
            counts.setdefault(key, Counter())[named] += 1
            if len(counts[key]) > KINDS:
                texts.add(key)
                del counts[key]
    kinds = {key: found for key, found in counts.items() if 1 < len(found) <= found.total() // 2}
    return {key: dict(found.most_common()) for key, found in kinds.items()}


def _copies(dataset: Dataset) -> tuple[int, tuple[tuple[str, str], ...]]:
    """Rows to train on or held out whose packed pixels stood before: copies, re-saved ones included."""
    places = np.sort(np.concatenate([dataset.train.places, dataset.held_out.places]))
    digests = np.empty((len(places), DIGEST), dtype=np.uint8)
    for start in range(0, len(places), CHUNK):
        digests[start : start + CHUNK] = digests_of(dataset.pool.read(places[start : start + CHUNK]))
    _, first, inverse = np.unique(digests, axis=0, return_index=True, return_inverse=True)
    origin = first[inverse.reshape(-1)]
    copies = np.flatnonzero(origin != np.arange(len(places)))
    named = tuple((_name(dataset, int(places[i])), _name(dataset, int(places[origin[i]]))) for i in copies[:5])
    return len(copies), named


def _name(dataset: Dataset, place: int) -> str:
    row: dict[str, Any] = dataset.table[place] if dataset.table is not None else {}
    return str(row.get("file_name") or row.get("text") or f"row {place}")


def _advice(dataset: Dataset, looks: Looks | None, classes: dict[str, int], copies: int) -> list[str]:
    config, count = dataset.config, len(dataset.train)
    said: list[str] = []
    if looks is not None and config.size != "auto":
        larger = [size for size in (128, 256) if config.size < size <= looks.shorter_side]
        more = f"; the images would carry {larger[-1]} (data.size={larger[-1]}), at a price" if larger else ""
        said.append(f"Train at {config.size}x{config.size}{more}.")
    if classes and not dataset.pool.facts.modes:
        least = min((n, name) for name, n in classes.items() if name != "unlabelled")
        if least[0] < FEW_A_CLASS:
            said.append(f"Class '{least[1]}' has only {least[0]} rows: consider data.condition=none.")
        else:
            said.append("Condition on the labels: they are what data.condition=auto takes.")
    elif not dataset.pool.facts.modes:
        said.append("Train without conditions: there are no labels (one subfolder a class would give them).")
    if dataset.space.is_image and count < FEW:
        said.append(
            f"{count:,} rows are few: watch for memorisation; data.flip=true helps where mirroring is harmless."
        )
    if looks is not None and looks.cropped > 0.25:
        said.append(f"The middle square leaves out {looks.cropped:.0%} of the picture: crop by hand if that hurts.")
    if looks is not None and looks.alpha:
        said.append(f"{looks.alpha:,} images are transparent; they are put on {config.background} (data.background).")
    if copies:
        said.append(f"{copies:,} rows are copies of others: remove them, or they will be learned by heart first.")
    if dataset.pool.broken:
        said.append(f"{dataset.pool.broken:,} files gave no row: see the list.")
    return said


def contact_sheet(dataset: Dataset, file: Path) -> None:
    """Writes 64 rows as a PNG: a row a class where there are up to 8 to choose, spread over the source otherwise.

    Where rows have maps, every second of them is shown, its map before it. Points are drawn as a density.

    Raises:
        RequestError: the file cannot be a PNG.
        ReverieError: the disk is full or refuses.
    """
    check_file(file, (".png",), "contact_sheet")
    if not dataset.space.is_image:
        save_png(_density(dataset), file)
        return
    chosen = _chosen(dataset)
    if dataset.space.maps:
        x, condition = dataset.train.take(chosen[::2])
        assert condition.image is not None
        pixels = to_bytes(beside(condition.image, x))
    else:
        pixels = torch.from_numpy(np.ascontiguousarray(dataset.train.pixels(chosen)))
    sheet = to_pillow(grid(pixels, columns=SHEET[1]))
    scale = max(1, 64 // dataset.space.shape[-1])
    save_png(sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.NEAREST), file)


def _chosen(dataset: Dataset) -> np.ndarray:
    """Places in ``train`` of the rows on the sheet, evenly spread."""
    rows, columns = SHEET
    labels = dataset.train.labels
    groups = [np.arange(len(dataset.train))]
    if labels is not None and 2 <= len(dataset.classes) <= 2 * rows:
        groups = [found for k in range(len(dataset.classes)) if len(found := np.flatnonzero(labels == k))]
    each = columns if len(groups) > 1 else rows * columns
    spread = [np.linspace(0, len(group) - 1, min(each, len(group))).round().astype(int) for group in groups]
    return np.concatenate([group[places] for group, places in zip(groups, spread, strict=True)])


def _density(dataset: Dataset) -> Image.Image:
    """Points as a two-dimensional histogram, dark where there are many."""
    x = dataset.train.pixels(np.arange(len(dataset.train)))
    limit = 1.1 * float(np.abs(x).max())
    edges = np.linspace(-limit, limit, 513)
    counts, _, _ = np.histogram2d(-x[:, 1], x[:, 0], bins=(edges, edges))
    shade = 255.0 * (1.0 - np.log1p(counts) / np.log1p(counts.max()))
    return Image.fromarray(shade.astype(np.uint8))
