"""In which precision networks see rows."""

from __future__ import annotations

import torch

from reverie.core import device as devices
from reverie.core.device import autocast
from reverie.core.space import Space

CPU = torch.device("cpu")
NEAR = torch.tensor([[1.0], [1.001]])  # one number in bf16, whose step below 2 is 1 / 128


def told_apart(precision: str, space: Space) -> bool:
    identity = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(identity.weight)
    with torch.no_grad(), autocast(CPU, precision, space):
        one, other = identity(NEAR).flatten()
    return bool(one != other)


def test_points_keep_their_digits_where_images_go_in_bf16(monkeypatch):
    monkeypatch.setattr(devices, "has_fast_bf16", lambda device: True)
    assert told_apart("auto", Space((2,)))
    assert not told_apart("auto", Space((1, 8, 8)))
    assert not told_apart("auto", Space((5,), picture=(3, 8, 8)))  # tags of a picture: the work is in the picture
    assert not told_apart("bf16", Space((2,)))
    assert told_apart("fp32", Space((1, 8, 8)))
