r"""The mean and covariance of features that arrive a batch at a time, and those of training rows, kept by content.

References:
    | Updating Formulae and a Pairwise Algorithm for Computing Sample Variances (Chan, Golub and LeVeque, 1979)
    | http://i.stanford.edu/pub/cstr/reports/cs/tr/79/773/CS-TR-79-773.pdf
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from reverie.data.cache import cache_folder, publish
from reverie.data.dataset import Dataset
from reverie.data.split import digest
from reverie.evaluation.features.features import Features

VERSION = 1  # of what is kept: a change makes new files


@dataclass
class Moments:
    """The mean and covariance of rows that arrive a batch at a time, in float64.

    Batches are merged by their own means, so that nothing is lost where the mean is large beside the spread.

    Arguments:
        size: the number of features.
    """

    size: int

    def __post_init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(self.size, dtype=torch.float64)
        self.scatter = torch.zeros(self.size, self.size, dtype=torch.float64)

    def add(self, features: Tensor) -> Moments:
        """Takes in rows ``[B, size]``; returns itself."""
        rows = features.double()
        mean, count = rows.mean(0), len(rows)
        delta, total = mean - self.mean, self.count + count
        self.scatter += (rows - mean).T @ (rows - mean) + torch.outer(delta, delta) * (self.count * count / total)
        self.mean = self.mean + delta * (count / total)
        self.count = total
        return self

    def without(self, part: Moments) -> Moments:
        """The moments of the rows that are not among those of ``part``, which must be fewer."""
        rest = Moments(self.size)
        rest.count = self.count - part.count
        rest.mean = (self.mean * self.count - part.mean * part.count) / rest.count
        delta = part.mean - rest.mean
        apart = torch.outer(delta, delta) * (rest.count * part.count / self.count)
        rest.scatter = self.scatter - part.scatter - apart
        return rest

    @property
    def covariance(self) -> Tensor:
        """The unbiased covariance, ``[size, size]``; at least two rows."""
        return self.scatter / (self.count - 1)


def training_moments(dataset: Dataset, features: Features, cache: str | Path | None = None) -> Moments:
    """The moments of all training rows: from the cache, keyed by the rows' content and the features' weights, or new.

    Arguments:
        dataset: whose training rows.
        features: of the rows.
        cache: where they are kept; see ``reverie.data.cache``.
    """
    key = digest(json.dumps([VERSION, dataset.rows_hash, len(dataset.train), features.key]).encode()).hex()
    folder = cache_folder(None if cache is None else Path(cache)) / "moments" / key
    moments = Moments(features.size)
    try:
        held = load_file(folder / "moments.safetensors")
        moments.count, moments.mean, moments.scatter = int(held["count"]), held["mean"], held["scatter"]
        return moments
    except FileNotFoundError:
        pass
    except (OSError, SafetensorError, KeyError):
        shutil.rmtree(folder, ignore_errors=True)  # damaged: make it again
    for block in features.of_rows(dataset.train):
        moments.add(block)
    with publish(folder) as unfinished:
        held = {"count": torch.tensor(moments.count), "mean": moments.mean, "scatter": moments.scatter}
        save_file(held, unfinished / "moments.safetensors")
    return moments
