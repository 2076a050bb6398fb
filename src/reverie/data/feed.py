"""The stream of batches: which rows stand at which place, and how each is augmented, from the seed alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch

from reverie.core.batch import Batch, Draw
from reverie.core.errors import RequestError
from reverie.core.noise import KeyedNoise
from reverie.data.dataset import Dataset, Rows


@lru_cache(maxsize=16)
def _order(seed: int, stream: str, epoch: int, count: int) -> np.ndarray:
    """The order of one epoch: a permutation keyed by (seed, stream, epoch), int64 ``[count]``."""
    key = hashlib.blake2b(f"{seed}/{stream}/{epoch}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little"))).permutation(count)


class Stream:
    """One draw's endless order over its rows: every epoch is a fresh permutation.

    Arguments:
        rows: what it runs over.
        seed: the run's.
        name: of the draw; different names give independent orders.
        train: the data set's training rows: rows that are among them are known by their place there.
    """

    def __init__(self, rows: Rows, seed: int, name: str, train: Rows) -> None:
        self.rows = rows
        self._seed, self._name = seed, name
        self._in_train: np.ndarray | None = None
        if rows is not train and np.isin(rows.places, train.places).all():
            self._in_train = np.searchsorted(train.places, rows.places)

    def index(self, places: np.ndarray) -> torch.Tensor:
        """The rows' places in ``Dataset.train``, or among their own rows where they are none of it, int64."""
        return torch.from_numpy(places if self._in_train is None else self._in_train[places])

    def places(self, first: int, count: int) -> np.ndarray:
        """Rows at places ``first`` to ``first + count - 1`` of the stream, int64 ``[count]``."""
        size = len(self.rows)
        parts = []
        while count > 0:
            epoch, start = divmod(first, size)
            part = _order(self._seed, self._name, epoch, size)[start : start + count]
            parts.append(part)
            first, count = first + len(part), count - len(part)
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


class Feed:
    """Batches of a data set; each is a function of the seed and its ids, and of nothing else.

    Arguments:
        dataset: where rows come from.
        seed: the run's.
        draws: what the model needs beside the main draw (``Model.draws``).

    Raises:
        RequestError: a draw asks for rows that the data have not.
    """

    def __init__(self, dataset: Dataset, seed: int, draws: Mapping[str, Draw] | None = None) -> None:
        self.dataset, self.space = dataset, dataset.space
        self._seed = seed
        self._main = Stream(dataset.train, seed, "main", dataset.train)
        self._draws = {
            name: Stream(dataset.rows(draw.where), seed, f"draw/{name}", dataset.train)
            for name, draw in (draws or {}).items()
        }
        if any(draw.vary for draw in (draws or {}).values()):
            raise RequestError(f"{dataset.config.source} has no factors that could vary one at a time")
        config = dataset.config
        self._augments = len(dataset.pool.shape) == 3 and (config.flip or config.turn or config.crop == "random")

    def batch(self, first: int, count: int) -> Batch:
        """The rows at places ``first`` to ``first + count - 1`` of the stream of images seen."""
        ids = torch.arange(first, first + count)
        parts = {name: self._read(stream, ids, name) for name, stream in self._draws.items()}
        return self._read(self._main, ids, "", parts)

    def first(self, count: int) -> Batch:
        """The first ``count`` rows of the run's order, a whole epoch where ``count`` is 0."""
        return self.batch(0, count or len(self.dataset.train))

    def _read(self, stream: Stream, ids: torch.Tensor, name: str, parts: Mapping[str, Batch] | None = None) -> Batch:
        places = stream.places(int(ids[0]) if len(ids) else 0, len(ids))
        if self._augments:
            x, condition = stream.rows.seen(self._augmented(stream.rows, places, ids, name), places)
        else:
            x, condition = stream.rows.take(places)
        return Batch(x, condition, ids, stream.index(places), parts or {})

    def _augmented(self, rows: Rows, places: np.ndarray, ids: torch.Tensor, name: str) -> np.ndarray:
        """Rows and their maps as bytes under this batch's crops, flips and turns, each keyed by the row's id."""
        config, size = self.dataset.config, (self.space.picture or self.space.shape)[-1]
        noise = KeyedNoise(self._seed, ids, f"augment/{name}")
        images = rows.planes(places)
        margin = images.shape[-1] - size
        if margin:
            corners = noise.fork("crop").integers(margin + 1, 2).tolist()
            pairs = zip(images, corners, strict=True)
            images = np.stack([image[:, top : top + size, left : left + size] for image, (top, left) in pairs])
        if config.turn:
            quarters = noise.fork("turn").integers(4).tolist()
            images = np.stack([np.rot90(image, k, axes=(1, 2)) for image, k in zip(images, quarters, strict=True)])
        if config.flip:
            mirrored = noise.fork("flip").integers(2).numpy().astype(bool)
            images[mirrored] = images[mirrored][..., ::-1]
        return images
