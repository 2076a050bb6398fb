"""A small classifier, trained once on a labelled source and kept in the cache: its features are what distances are of.

References:
    | Very Deep Convolutional Networks for Large-Scale Image Recognition (Simonyan and Zisserman, 2014)
    | https://arxiv.org/abs/1409.1556
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from reverie.core.noise import KeyedNoise
from reverie.data.cache import cache_folder, publish
from reverie.data.dataset import Dataset, Rows, as_floats
from reverie.data.split import digest
from reverie.evaluation.features.network import FeatureNetwork

VERSION = 1  # of what is trained and how: a change makes new files
MIN_ROWS = 200  # labelled rows under which a classifier learns nothing worth measuring with
BATCH = 128
VIEWS = 60_000  # images seen in training, whatever the size of the source: about 15 s at 28 x 28 on two cores


@dataclass(frozen=True)
class Classifier:
    """A trained classifier.

    Arguments:
        network: in eval mode, float32, on the CPU.
        accuracy: the share of held-out rows it gets right (of training rows, where none are held out).
    """

    network: FeatureNetwork
    accuracy: float

    def features(self, x: Tensor) -> Tensor:
        """Returns features ``[B, 128]`` of images in [-1, 1]."""
        with torch.no_grad():
            return self.network.features(x.float())

    def logits(self, features: Tensor) -> Tensor:
        """Returns class logits ``[B, classes]`` of features."""
        assert self.network.out is not None
        with torch.no_grad():
            logits: Tensor = self.network.out(features)
        return logits


def trained_classifier(dataset: Dataset, cache: Path | None, say: Callable[[str], None]) -> Classifier:
    """The classifier of a source: from the cache, or trained now and put there.

    It depends on the source's content and size only: conditional and unconditional runs share it.
    """
    config = dataset.config
    parts = [VERSION, dataset.pool.key, dataset.pool.facts.main, config.size, config.held_out]
    key = digest(json.dumps(parts).encode()).hex()
    folder = cache_folder(cache) / "features" / key
    file = folder / "classifier.safetensors"
    network = fresh_network(dataset, seed=0).eval()
    try:
        with safe_open(file, framework="pt") as header:
            accuracy = float(header.metadata()["accuracy"])
        network.load_state_dict(load_file(file))
        return Classifier(network, accuracy)
    except FileNotFoundError:
        pass
    except (OSError, SafetensorError, KeyError, RuntimeError):
        shutil.rmtree(folder, ignore_errors=True)  # damaged: make it again
    say(f"training a classifier of the {len(dataset.classes)} classes for features (once; kept in {folder})")
    classifier = train_classifier(dataset, VIEWS)
    with publish(folder) as unfinished:
        weights = {k: v.contiguous() for k, v in classifier.network.state_dict().items()}
        save_file(weights, unfinished / file.name, {"accuracy": repr(classifier.accuracy)})
    return classifier


def train_classifier(dataset: Dataset, views: int, seed: int = 0) -> Classifier:
    """Trains a classifier on the labelled training rows: Adam, a cosine schedule, shifts of up to two pixels.

    Arguments:
        dataset: with labels.
        views: images to see in all.
        seed: of the weights, the order and the shifts; the global generator is left as it was.
    """
    rows, labels = dataset.train, dataset.train.labels
    assert labels is not None
    known = np.flatnonzero(labels >= 0)
    network = fresh_network(dataset, seed)
    steps = math.ceil(views / BATCH)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    order = np.random.Generator(np.random.Philox(seed))
    places = np.concatenate([order.permutation(known) for _ in range(math.ceil(steps * BATCH / len(known)))])
    network.train()
    for step in range(steps):
        index = places[step * BATCH : (step + 1) * BATCH]
        noise = KeyedNoise(seed, torch.arange(step * BATCH, step * BATCH + len(index)), "shift")
        loss = F.cross_entropy(network(shifted(rows.pixels(index), noise)), torch.from_numpy(labels[index]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    measured = dataset.held_out if len(dataset.held_out) else rows
    return Classifier(network, accuracy(Classifier(network, 0.0), measured))


def fresh_network(dataset: Dataset, seed: int) -> FeatureNetwork:
    """An untrained network for a source; the global generator is left as it was."""
    shape = dataset.space.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FeatureNetwork(shape[0], max(shape[1:]), len(dataset.classes))


def shifted(pixels: np.ndarray, noise: KeyedNoise, most: int = 2) -> Tensor:
    """Images moved by up to ``most`` pixels each way, edges repeated; as floats in [-1, 1]."""
    height, width = pixels.shape[2:]
    padded = np.pad(pixels, ((0, 0), (0, 0), (most, most), (most, most)), mode="edge")
    corner = noise.integers(2 * most + 1, 2).numpy()
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    return as_floats(windows[np.arange(len(pixels)), :, corner[:, 0], corner[:, 1]])


class Sees(Protocol):
    """Tells classes of images apart."""

    def features(self, x: Tensor) -> Tensor: ...

    def logits(self, features: Tensor) -> Tensor: ...


def accuracy(classifier: Sees, rows: Rows, block: int = 512) -> float:
    """The share of labelled rows that a classifier gets right."""
    assert rows.labels is not None
    known = np.flatnonzero(rows.labels >= 0)
    right = 0
    for start in range(0, len(known), block):
        index = known[start : start + block]
        guess = classifier.logits(classifier.features(rows.take(index)[0])).argmax(1)
        right += int((guess.numpy() == rows.labels[index]).sum())
    return right / max(len(known), 1)
