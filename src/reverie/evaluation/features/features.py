"""Which features an evaluation uses, and what it says of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from reverie.core.errors import RequestError, nearest
from reverie.data.cache import cache_folder
from reverie.data.dataset import Dataset, Rows
from reverie.evaluation.features import inception
from reverie.evaluation.features.classifier import MIN_ROWS, Classifier, trained_classifier
from reverie.evaluation.features.inception import load_inception
from reverie.evaluation.features.network import FEATURES, FeatureNetwork
from reverie.evaluation.features.resize import resized


@dataclass(frozen=True)
class Features:
    """A map from rows to vectors.

    Arguments:
        name: ``classifier``, ``inception``, ``random`` or ``coordinates``.
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


KINDS = ("auto", "classifier", "inception", "random", "coordinates")


def choose_features(
    dataset: Dataset, cache: Path | None = None, say: Callable[[str], None] = print, name: str = "auto"
) -> Features:
    """The features that suit a data set, or those asked for.

    Arguments:
        dataset: what the model was trained on.
        cache: where trained and downloaded networks are kept; see ``reverie.data.cache``.
        say: told what is going on.
        name: ``auto``: a classifier's where there are labels, else random ones, said loudly; ``classifier``,
            ``random``, ``inception``, or ``inception:PATH``, the published weights' file.

    Raises:
        RequestError: there are no such features, or they do not suit the data.
    """
    kind, _, path = name.partition(":")
    if kind not in KINDS:
        raise RequestError(f"no features '{kind}'{nearest(kind, KINDS)}")
    if not dataset.space.is_image:
        if kind not in ("auto", "coordinates"):
            raise RequestError(f"points are their own features; {kind} is of images")
        statement = "coordinates of the points themselves"
        return Features("coordinates", dataset.space.size, statement, lambda x: x.flatten(1).float(), "coordinates")
    if kind == "inception":
        return _inception(path, cache_folder(cache))
    if kind == "random":
        return _random(dataset)
    found = _classifier(dataset, cache, say)
    if found is None and kind == "classifier":
        raise RequestError(f"a classifier needs at least {MIN_ROWS} labelled rows of two classes or more")
    if found is None:
        say("no labels to train a classifier on: distances are on random features, which rank models only roughly")
    return found or _random(dataset)


def _classifier(dataset: Dataset, cache: Path | None, say: Callable[[str], None]) -> Features | None:
    """Those of a classifier of the source's labels; None where there are too few."""
    labels = dataset.train.labels
    known = np.zeros(0, dtype=np.int64) if labels is None else labels[labels >= 0]
    if len(known) < MIN_ROWS or (np.bincount(known, minlength=1) > 0).sum() < 2:
        return None
    classifier = trained_classifier(dataset, cache, say)
    statement = (
        f"{FEATURES} features of a small classifier of the source's {len(dataset.classes)} classes, trained on its "
        f"training rows ({classifier.accuracy:.1%} right on held-out rows); distances compare only with "
        "others on this source and these features"
    )
    key = f"classifier {weights_hash(classifier.network)}"
    return Features("classifier", FEATURES, statement, classifier.features, key, classifier)


def _inception(path: str, cache: Path) -> Features:
    network = load_inception(path, cache)

    def extract(x: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat(
                [network.features(inception.scaled(resized(part.float(), inception.SIDE))) for part in x.split(32)]
            )

    statement = (
        f"{inception.FEATURES} features of InceptionV3 as the Fréchet Inception Distance has them, on images resized "
        f"to {inception.SIDE} pixels with antialiasing; figures of other programs resize otherwise"
    )
    key = f"inception {weights_hash(network)} bicubic-antialiased-{inception.SIDE}"
    return Features("inception", inception.FEATURES, statement, extract, key)


def _random(dataset: Dataset) -> Features:
    statement = (
        f"{FEATURES} random convolutional features, for want of labels to train a classifier on: they rank models only "
        "roughly"
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
