"""Opening a data set of Hugging Face, and finding out which of its columns are what."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reverie.core.errors import RequestError, nearest
from reverie.data.decode import MAX_BYTES, BrokenImageError
from reverie.data.pool import Facts
from reverie.data.source import Described
from reverie.data.sources.annotations import TEST_PARTS, given_labels

LABELS = ("label", "labels", "fine_label", "class", "target")  # columns that are labels, the first that is there
CAPTIONS = ("text", "caption", "captions", "prompt")
OLDEST = 4  # the major version of ``datasets`` since which no code of a data set is run, whatever is asked


@dataclass(frozen=True)
class Columns:
    """Which columns are what.

    Arguments:
        image: its images.
        label: its labels; empty where it has none.
        classes: the labels' names; None where labels stand as names or numbers themselves.
        notes: what was decided.
    """

    image: str
    label: str
    classes: tuple[str, ...] | None
    notes: tuple[str, ...]


def is_local(name: str) -> bool:
    """Whether a name is that of a folder rather than of the Hub: it looks like a path, or there is such a folder."""
    place = Path(name).expanduser()
    return name.startswith((".", "~")) or place.is_absolute() or place.is_dir()


def open_hub(name: str, options: Mapping[str, str], streaming: bool) -> Mapping[str, Any]:
    """The splits of a data set by name, as ``datasets`` has them.

    Raises:
        RequestError: the extra is missing or old, or the data set cannot be opened.
    """
    try:
        import datasets
    except ImportError:
        raise RequestError(f"hf:{name} needs the 'hub' extra: pip install '.[hub]' in Reverie's folder") from None
    if int(datasets.__version__.split(".")[0]) < OLDEST:
        raise RequestError(
            f"hf:{name} needs datasets {OLDEST} or later, which runs no code of a data set; "
            f"this is {datasets.__version__}: pip install -U datasets"
        )
    place = Path(name).expanduser()
    if is_local(name) and not place.is_dir():
        raise RequestError(f"hf:{name}: there is no folder {place}")
    config, revision = options.get("config"), options.get("revision")
    try:
        if is_local(name) and any((place / file).is_file() for file in ("dataset_dict.json", "state.json")):
            found = datasets.load_from_disk(str(place))
            if streaming:
                found = found if isinstance(found, dict) else {"train": found}
                return {part: rows.to_iterable_dataset().decode(False) for part, rows in found.items()}
        else:
            where = str(place) if is_local(name) else name
            found = datasets.load_dataset(where, name=config, revision=revision, streaming=streaming)
            if streaming:
                return {part: rows.decode(False) for part, rows in found.items()}
    except Exception as error:  # of many kinds, none of which is documented
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise RequestError(f"hf:{name} cannot be opened: {line}") from error
    return found if isinstance(found, dict) else {"train": found}


def pick_parts(found: Mapping[str, Any], options: Mapping[str, str], name: str) -> dict[str, Any]:
    """The split to train on and, after it, the one that is held out, where there is one."""
    main = options.get("split") or ("train" if "train" in found else next(iter(found)))
    if main not in found:
        raise RequestError(f"hf:{name} has no split '{main}'{nearest(main, found)}")
    held = next((part for part in ("test", "validation", *sorted(TEST_PARTS)) if part in found and part != main), None)
    return {part: found[part] for part in (main, held) if part}


def find_columns(features: Mapping[str, Any] | None, options: Mapping[str, str], name: str) -> Columns:
    """Which column holds images, and which labels.

    Raises:
        RequestError: there is no column of images, or none of the name that was asked for.
    """
    kinds = {column: type(feature).__name__ for column, feature in (features or {}).items()}
    for role in ("image", "label"):
        if options.get(role) and options[role] not in kinds:
            raise RequestError(f"hf:{name} has no column '{options[role]}'{nearest(options[role], kinds)}")
    image = options.get("image") or next((column for column, kind in kinds.items() if kind == "Image"), "")
    if not image or kinds[image] != "Image":
        raise RequestError(f"hf:{name} has no column of images; its columns: {', '.join(kinds) or 'unknown'}")
    named = [column for column, kind in kinds.items() if kind == "ClassLabel"]
    plain = [column for column in LABELS if kinds.get(column) == "Value"]
    candidates = [*(column for column in LABELS if column in named), *named, *plain]
    label = options.get("label") or next(iter(candidates), "")
    assert features is not None
    classes = tuple(features[label].names) if kinds.get(label) == "ClassLabel" else None
    others = [column for column in dict.fromkeys(candidates) if column != label]
    note = f"images: column '{image}'" + (f", labels: column '{label}'" if label else "")
    note += f" ({', '.join(others)} would do too: ?label=)" if others else ""
    return Columns(image, label, classes, (note,))


def image_bytes(value: Any, root: Path | None) -> bytes:
    """The encoded image of a row, out of the data set itself, its own folder or the Hub's cache.

    Raises:
        BrokenImageError: there is none, or it lies elsewhere: a data set must not name this machine's files.
        OSError: its file cannot be read.
    """
    raw, path = (value or {}).get("bytes"), (value or {}).get("path")
    if raw is not None:
        if len(raw) > MAX_BYTES:
            raise BrokenImageError(f"larger than {MAX_BYTES:,} bytes")
        return bytes(raw)
    if not path:
        raise BrokenImageError("no image")
    import datasets

    if path.startswith("hf://"):
        import fsspec

        file = fsspec.open(path, "rb")
    else:
        place = Path(path).resolve()
        allowed = [Path(datasets.config.HF_CACHE_HOME).resolve(), *([root] if root else [])]
        if not any(place.is_relative_to(folder) for folder in allowed):
            raise BrokenImageError(f"its file lies outside of the data set: {path}")
        file = place.open("rb")
    with file as stream:
        return bytes(stream.read(MAX_BYTES))


def describe(columns: Columns, values: Mapping[str, Sequence[dict[str, Any]]], order: Sequence[str]) -> Described:
    """Labels, test part and table, from the columns beside the images.

    Arguments:
        columns: which are what.
        values: of each split, one dict a row.
        order: the splits' names, the one to train on first.
    """
    rows = [row for part in order for row in values[part]]
    held_out = np.repeat(np.arange(len(order)) > 0, [len(values[part]) for part in order]) if len(order) > 1 else None
    labels, classes = None, columns.classes or ()
    if columns.label and columns.classes is not None:
        whole = [row.get(columns.label) for row in rows]
        labels = np.array([k if isinstance(k, int) and 0 <= k < len(classes) else -1 for k in whole], dtype=np.int64)
    elif columns.label:
        names = [str(i) for i in range(len(rows))]
        said = {name: row.get(columns.label) for name, row in zip(names, rows, strict=True)}
        kept = {name: v for name, v in said.items() if isinstance(v, str | int) and not isinstance(v, bool)}
        if kept:
            labels, classes = given_labels(names, kept)
    caption = next((column for column in CAPTIONS if any(isinstance(row.get(column), str) for row in rows[:100])), None)
    lines = [json.dumps(row if caption is None else {**row, "text": row.get(caption)}, default=str) for row in rows]
    return Described(Facts(labels=labels, classes=classes, held_out=held_out), lines, columns.notes)


def scalars(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows without what is neither text nor number."""
    for row in rows:
        yield {key: value for key, value in row.items() if value is None or isinstance(value, str | int | float | bool)}
