"""Where rows come from: one kind of source a file."""

from __future__ import annotations

from pathlib import Path

from reverie.core.errors import RequestError, nearest
from reverie.data.source import Source
from reverie.data.sources.digits import digits_source
from reverie.data.sources.idx import idx_folder, idx_source, is_idx
from reverie.data.toys import TOYS, toy_source

BUILTIN = ("digits", "emoji", "stacked-digits", *TOYS)


def find_source(text: str) -> Source:
    """What a recipe or a command names.

    Arguments:
        text: a built-in name, or the path of a folder, a zip or an IDX file.

    Raises:
        RequestError: there is no such source.
    """
    name, _, _option = text.partition(":")
    if name == "digits":
        return digits_source()
    if name in TOYS:
        return toy_source(name)
    path = Path(text).expanduser()
    if path.is_dir():
        found = idx_folder(path)
        if found is not None:
            return found
    if path.is_file() and is_idx(path):
        return idx_source(path)
    raise RequestError(f"no data '{text}': neither a path nor a built-in name{nearest(text, BUILTIN)}")
