"""Stacked digits: three digits drawn at random as the red, green and blue of one image, 1,000 modes to be found.

References:
    | Unrolled Generative Adversarial Networks (Metz et al., 2016), Section 3.3.1
    | https://arxiv.org/abs/1611.02163
"""

from __future__ import annotations

import numpy as np
import torch

from reverie.core.errors import RequestError
from reverie.core.noise import KeyedNoise
from reverie.data.pool import Facts, Pool
from reverie.data.split import digest, digests_of, is_held_out

TRAIN, HELD_OUT = 50_000, 10_000  # rows
VERSION = 1


def stack(digits: Pool, share: float) -> Pool:
    """Rows of three digits, made when they are read; training rows are made of training digits only.

    Arguments:
        digits: a pool of grey images with the labels 0 to 9.
        share: of digits that are held out where their source has no test part.

    Raises:
        RequestError: the digits are not labelled 0 to 9, or there are none on one side.
    """
    labels = digits.facts.labels
    if labels is None or len(digits.facts.classes) != 10 or labels.min() < 0:
        raise RequestError("stacked-digits needs images that are all labelled, with 10 classes")
    held = digits.facts.held_out if digits.facts.held_out is not None else is_held_out(digits.digests, share)
    sides = np.flatnonzero(~held), np.flatnonzero(held)
    if not all(len(side) for side in sides):
        raise RequestError("stacked-digits needs digits to train on and some held out; raise data.held_out")
    ids = torch.arange(TRAIN + HELD_OUT)
    bits = KeyedNoise(0, ids, "stacked-digits").integers(2**31, 3).numpy()
    train, test = (side[part % len(side)] for side, part in zip(sides, (bits[:TRAIN], bits[TRAIN:]), strict=True))
    triples = np.concatenate([train, test])  # [N, 3]
    height, width = digits.shape[1:]

    def read(index: np.ndarray) -> np.ndarray:
        return digits.read(triples[index].reshape(-1)).reshape(len(index), 3, height, width)

    facts = Facts(
        labels=labels[triples] @ np.array([100, 10, 1]),
        classes=tuple(f"{k:03d}" for k in range(1000)),
        modes=True,
        held_out=np.arange(len(triples)) >= TRAIN,
    )
    key = digest(f"stacked/{VERSION}/{digits.key}/{len(sides[0])}/{share}".encode()).hex()
    digests = digests_of(digits.digests[triples].reshape(len(triples), -1))
    return Pool(key, "stacked digits", (3, height, width), digests, read, facts)
