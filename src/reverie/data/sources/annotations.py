"""What stands beside images: ``metadata.jsonl``, ``dataset.json``, and the names of folders.

Paths in these files are compared with the names of images that were found, and never opened: one that points
elsewhere matches nothing.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reverie.data.decode import BrokenImageError
from reverie.data.pool import Facts
from reverie.data.source import Described

METADATA, STYLEGAN = "metadata.jsonl", "dataset.json"
TRAIN_PARTS = frozenset({"train", "training"})
TEST_PARTS = frozenset({"test", "testing", "val", "valid", "validation"})
Label = str | int


@dataclass
class Notes:
    """Annotations by image name, as they are read.

    Arguments:
        lines: the row's JSON.
        labels: its class.
        domains: its drawing style or side.
        unmatched: how many rows name no image that was found.
        damaged: how many rows are not JSON with a ``file_name``.
        unreadable: a sentence for each annotation file that could not be read.
        has_stylegan: whether a ``dataset.json`` was read.
    """

    lines: dict[str, str] = field(default_factory=dict)
    labels: dict[str, Label] = field(default_factory=dict)
    domains: dict[str, str] = field(default_factory=dict)
    unmatched: int = 0
    damaged: int = 0
    unreadable: list[str] = field(default_factory=list)
    has_stylegan: bool = False


def describe(names: Sequence[str], texts: Iterable[tuple[str, Callable[[], bytes]]]) -> Described:
    """Labels, domains, test part and table of images.

    Labels come from the first of these that has any: ``dataset.json``, a ``label`` in ``metadata.jsonl``, subfolders.

    Arguments:
        names: of the images, relative to the source, with forward slashes.
        texts: name and reader of each annotation file that was found.
    """
    known, notes = frozenset(names), Notes()
    for name, read in texts:
        try:
            content = read()
        except (BrokenImageError, OSError) as error:
            notes.unreadable.append(f"{name} cannot be read ({error}); it is ignored")
            continue
        if posixpath.basename(name) == STYLEGAN:
            _read_stylegan(posixpath.dirname(name), content, known, notes)
        else:
            _read_metadata(posixpath.dirname(name), content, known, notes)
    held_out, inner = _parts(names)
    labels, classes = given_labels(names, notes.labels) if notes.labels else (None, ())
    if labels is None and not notes.has_stylegan:  # its subfolders are only for storage
        labels, classes = _folder_labels(inner)
    domains, domain_names = _domains(names, notes.domains)
    facts = Facts(labels, classes, domains=domains, domain_names=domain_names, held_out=held_out)
    lines = [notes.lines.get(name) or json.dumps({"file_name": name}) for name in names]
    return Described(facts, lines, tuple(_sentences(notes)))


def _sentences(notes: Notes) -> Iterable[str]:
    yield from notes.unreadable
    if notes.unmatched:
        yield f"{notes.unmatched:,} annotated rows name no image in the source; they are ignored"
    if notes.damaged:
        yield f"{notes.damaged:,} lines of annotation are not JSON with a file_name; they are ignored"


def _inside(folder: str, name: Any) -> str | None:
    """The name relative to the source; None where it is no relative path that stays inside its folder."""
    if not isinstance(name, str) or name.startswith("/"):
        return None
    path = posixpath.normpath(name)
    return None if path.startswith("..") else posixpath.join(folder, path)


def _read_metadata(folder: str, content: bytes, known: frozenset[str], notes: Notes) -> None:
    """Hugging Face's ImageFolder: a JSON object a line, ``file_name`` relative to the file's own folder."""
    for line in content.decode("utf-8", "replace").splitlines():
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            named = row["file_name"]
        except (ValueError, TypeError, KeyError, RecursionError):
            notes.damaged += 1
            continue
        name = _inside(folder, named)
        if name is None or name not in known:
            notes.unmatched += 1
            continue
        notes.lines[name] = line.strip()
        label, domain = row.get("label"), row.get("domain")
        if isinstance(label, (str, int)) and not isinstance(label, bool):
            notes.labels[name] = label
        if isinstance(domain, str):
            notes.domains[name] = domain


def _read_stylegan(folder: str, content: bytes, known: frozenset[str], notes: Notes) -> None:
    """StyleGAN's ``{"labels": [["00000/img00000000.png", 3], …]}``; only whole-number labels are classes."""
    try:
        pairs = json.loads(content).get("labels") or []
    except (ValueError, AttributeError, RecursionError):
        notes.damaged += 1
        return
    notes.has_stylegan = True
    for pair in pairs if isinstance(pairs, list) else []:
        if not (isinstance(pair, list) and len(pair) == 2):
            notes.damaged += 1
            continue
        name = _inside(folder, pair[0])
        if name is None or name not in known:
            notes.unmatched += 1
        elif isinstance(pair[1], int) and not isinstance(pair[1], bool):
            notes.labels[name] = pair[1]


def _parts(names: Sequence[str]) -> tuple[np.ndarray | None, Sequence[str]]:
    """The test part where folders name one (``train/``, ``test/``), and names inside of the parts."""
    first = [name.partition("/")[0].lower() if "/" in name else "" for name in names]
    found = set(first)
    if not (found & TRAIN_PARTS and found <= TRAIN_PARTS | TEST_PARTS):
        return None, names
    inner = [name.partition("/")[2] for name in names]
    return (np.array([part in TEST_PARTS for part in first]) if found & TEST_PARTS else None), inner


def _folder_labels(names: Sequence[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """First-level subfolders as classes, where every image is in one and there are at least two."""
    if not all("/" in name for name in names):
        return None, ()
    folders = [name.partition("/")[0] for name in names]
    classes = tuple(sorted(set(folders)))
    if len(classes) < 2:
        return None, ()
    place = {name: k for k, name in enumerate(classes)}
    return np.array([place[folder] for folder in folders], dtype=np.int64), classes


def given_labels(names: Sequence[str], labels: Mapping[str, Label]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Given labels as places among their sorted values; -1 where an image has none."""
    values = set(labels.values())
    whole = all(isinstance(value, int) for value in values)
    ordered = sorted(values, key=(lambda value: (int(value), "")) if whole else (lambda value: (0, str(value))))
    classes = tuple(dict.fromkeys(str(value) for value in ordered))
    place = {name: k for k, name in enumerate(classes)}
    return np.array([place[str(labels[n])] if n in labels else -1 for n in names], dtype=np.int64), classes


def _domains(names: Sequence[str], domains: Mapping[str, str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    known = tuple(sorted(set(domains.values())))
    if len(known) < 2:
        return None, ()
    return np.array([known.index(domains[n]) if n in domains else -1 for n in names], dtype=np.int64), known
