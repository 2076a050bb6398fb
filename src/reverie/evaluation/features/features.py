"""Which features an evaluation uses, and what it says of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from reverie.data.dataset import Dataset, Rows
from reverie.evaluation.features.classifier import MIN_ROWS, Classifier, trained_classifier
from reverie.evaluation.features.network import FEATURES, FeatureNetwork


@dataclass(frozen=True)
class Features:
    """A map from rows to vectors.

    Arguments:
        name: ``classifier``, ``random`` or ``coordinates``.
        size: the length of a vector.
        statement: what they are, in a sentence, for the report.
        extract: rows ``[B, *space.shape]`` to float32 ``[B, size]``.
        key: name, weights' hash and resize: features with the same key are the same.
        classifier: what tells the classes apart, where there are labels.
    """

    name: str
    size: int
    statement: str
    extract: Callable[[Tensor], Tensor]
    key: str
    classifier: Classifier | None = None

    def of_rows(self, rows: Rows, index: np.ndarray | None = None, block: int = 512) -> Iterator[Tensor]:
        """The features of data rows, a block at a time."""
        index = np.arange(len(rows)) if index is None else index
        for start in range(0, len(index), block):
            yield self.extract(rows.take(index[start : start + block])[0])


def choose_features(dataset: Dataset, cache: Path | None = None, say: Callable[[str], None] = print) -> Features:
    """The features that suit a data set: a classifier's where it has labels, else random ones, said loudly.

    Arguments:
        dataset: what the model was trained on.
        cache: where the trained classifier is kept; see ``reverie.data.cache``.
        say: told what is going on.
    """
    if not dataset.space.is_image:
        statement = "coordinates of the points themselves"
        return Features("coordinates", dataset.space.size, statement, lambda x: x.flatten(1).float(), "coordinates")
    labels = dataset.train.labels
    known = np.zeros(0, dtype=np.int64) if labels is None else labels[labels >= 0]
    counts = np.bincount(known, minlength=1)
    if len(known) >= MIN_ROWS and (counts > 0).sum() >= 2:
        classifier = trained_classifier(dataset, cache, say)
        statement = (
            f"{FEATURES} features of a small classifier of the source's {len(dataset.classes)} classes, trained on its "
            f"training rows ({classifier.accuracy:.1%} right on held-out rows); distances compare only with "
            "others on this source and these features"
        )
        key = f"classifier {weights_hash(classifier.network)}"
        return Features("classifier", FEATURES, statement, classifier.features, key, classifier)
    say("no labels to train a classifier on: distances are on random features, which rank models only roughly")
    statement = (
        f"{FEATURES} random convolutional features, since the source has too few labels to train a classifier on: "
        "they rank models only roughly"
    )
    shape = "x".join(map(str, dataset.space.shape))
    return Features("random", FEATURES, statement, random_features(dataset.space.shape), f"random {shape}")


def weights_hash(network: nn.Module) -> str:
    """Twelve digits that differ where any weight does."""
    content = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        content.update(name.encode())
        content.update(value.cpu().contiguous().numpy().tobytes())
    return content.hexdigest()[:12]


def random_features(shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    """Features of a network as it was drawn, always the same one.

    References:
        | Reliable Fidelity and Diversity Metrics for Generative Models (Naeem et al., 2020), Section 4.1
        | https://arxiv.org/abs/2002.09797
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = FeatureNetwork(shape[0], max(shape[1:]), 0).eval()
        for weight in (p for p in network.parameters() if p.ndim > 1):
            torch.nn.init.kaiming_normal_(weight)  # keeps the scale of the input through all layers

    def extract(x: Tensor) -> Tensor:
        with torch.no_grad():
            return network.features(x.float())

    return extract
