"""Where rows come from: one kind of source a file."""

from __future__ import annotations

from pathlib import Path

from reverie.core.errors import RequestError, nearest
from reverie.data.decode import SUFFIXES
from reverie.data.source import Files, Pixels, Source, Stacked
from reverie.data.sources.archive import zip_source
from reverie.data.sources.avatars import avatars_source
from reverie.data.sources.digits import digits_source
from reverie.data.sources.emoji import emoji_source
from reverie.data.sources.folder import folder_source
from reverie.data.sources.hub import hub_source
from reverie.data.sources.idx import idx_folder, idx_source, is_idx
from reverie.data.sources.scenes import scenes_source
from reverie.data.toys import TOYS, toy_source

BUILTIN = ("avatars", "digits", "emoji", "scenes", "stacked-digits", *TOYS)


def find_source(text: str) -> Source:
    """What a recipe or a command names.

    Arguments:
        text: a built-in name, ``hf:`` and a data set of Hugging Face, or the path of a folder, a zip or an IDX file.
            A folder that has a built-in's name is meant by ``./digits``.

    Raises:
        RequestError: there is no such source.
    """
    if not text:
        raise RequestError("the source of data is empty; name a folder, a zip, or a built-in one such as digits")
    name, colon, option = text.partition(":")
    if name == "avatars":
        return avatars_source(option)
    if name == "hf":
        return hub_source(option)
    if name == "emoji":
        return emoji_source(option)
    if name == "scenes":
        return scenes_source(option)
    if name == "stacked-digits":
        digits = find_source(option or "digits")
        if not isinstance(digits, Files | Pixels):
            raise RequestError(f"'{text}': stacked-digits needs images of digits, as in stacked-digits:path/to/mnist")
        return Stacked(digits)
    if name in BUILTIN and not colon:
        return digits_source() if name == "digits" else toy_source(name)
    return _at_path(text)


def _at_path(text: str) -> Source:
    path = Path(text).expanduser()
    if path.is_dir():
        return idx_folder(path) or folder_source(path)
    if not path.is_file():
        raise RequestError(f"no data '{text}': neither a path nor a built-in name{nearest(text, BUILTIN)}")
    if path.suffix.lower() == ".zip":
        return zip_source(path)
    if is_idx(path):
        return idx_source(path)
    if path.suffix.lower() in SUFFIXES:
        raise RequestError(f"{path} is one picture: name the folder that pictures lie in, as in {path.parent}")
    raise RequestError(f"{path} is neither a folder, nor a zip, nor an IDX file of images (…images-idx3-ubyte[.gz])")
