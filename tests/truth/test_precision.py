"""In which precision networks see rows."""

from __future__ import annotations

import pytest
import torch

from reverie.core import device as devices
from reverie.core.device import autocast, finest
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


@pytest.mark.parametrize(
    ("cost", "faster"),
    [
        ({torch.bfloat16: 1.0, torch.float32: 1.3}, True),
        ({torch.bfloat16: 1.0, torch.float32: 1.1}, False),
        ({torch.bfloat16: 1.6, torch.float32: 1.0}, False),
    ],
)
def test_bf16_is_taken_where_it_was_measured_to_be_faster(monkeypatch, cost, faster):
    clock = [0.0]

    def convolve(x, w, padding):
        clock[0] += cost[x.dtype]

    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(devices.F, "conv2d", convolve)
    monkeypatch.setattr(devices, "perf_counter", lambda: clock[0])
    assert devices._cpu_is_faster_in_bf16.__wrapped__() is faster


def test_the_finest_numbers_are_those_that_a_device_has() -> None:
    assert finest(torch.device("cpu")) == finest(torch.device("cuda", 1)) == torch.float64
    assert finest(torch.device("mps")) == torch.float32
