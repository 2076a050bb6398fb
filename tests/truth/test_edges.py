"""Edges of pictures whose edges are known."""

from __future__ import annotations

import math

import pytest
import torch

from reverie.maths.edges import HIGH, LOW, edge_agreement, edges


def halves(difference: float, size: int = 16) -> torch.Tensor:
    x = torch.full((1, 1, size, size), -difference / 2)
    x[..., size // 2 :] = difference / 2
    return x


def slope() -> float:
    """The gradient of a unit step: Gaussian weights of sigma 1 and central differences, summed by hand."""
    weights = [math.exp(-k * k / 2) for k in range(-3, 4)]
    return (weights[3] + weights[2]) / (2 * sum(weights))


def test_a_step_is_one_line_where_it_is_and_from_the_threshold_on():
    for turned in (False, True):
        x = halves(1.0).transpose(2, 3) if turned else halves(1.0)
        line = edges(x)[0, 0].T if turned else edges(x)[0, 0]
        assert set(line.unique().tolist()) == {-1.0, 1.0}
        assert (line[:, 8] == 1).all()
        assert (line == 1).sum() == 16
    least = HIGH / slope()
    assert edges(halves(least * 1.01)).max() == 1
    assert edges(halves(least * 0.99)).max() == -1


def test_a_disc_has_a_circle():
    place = torch.arange(64) - 31.5
    distance = torch.hypot(place[:, None], place[None])
    x = ((20.5 - distance).clamp(0, 1) * 2 - 1)[None, None]
    found = edges(x)
    assert (distance[found[0, 0] > 0] - 20).abs().max() < 1
    assert edge_agreement(found, torch.where((distance - 20).abs() < 0.7, 1.0, -1.0)[None, None], 1) == 1.0
    assert 4 * math.sqrt(2) * 20 - 8 < (found > 0).sum() < 8 * 20  # one pixel wide: 8- to 4-connected


def test_faint_edges_are_kept_where_they_go_on_from_clear_ones_only():
    faint = 0.5 * (LOW + HIGH) / slope()
    x = halves(faint, 32)
    assert edges(x).max() == -1
    x *= torch.linspace(3.0, 1.0, 8).repeat_interleave(4)[:, None].clamp(max=2.0)  # the same edge, clear above
    assert (edges(x)[0, 0, :, 16] == 1).all()


def test_an_edge_of_colours_that_are_equally_bright_is_seen():
    x = torch.zeros(1, 3, 16, 16)
    x[:, 0, :, 8:], x[:, 1, :, 8:] = 0.8, -0.8
    assert edges(x.mean(1, keepdim=True)).max() == -1
    assert (edges(x)[0, 0, :, 8] == 1).all()


def test_a_row_does_not_depend_on_the_others():
    x = torch.rand(6, 3, 20, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.equal(edges(x)[2:3], edges(x[2:3]))
    assert edges(x).shape == (6, 1, 20, 24)


def test_agreement_by_hand():
    def line(*columns: int) -> torch.Tensor:
        x = torch.full((1, 1, 10, 10), -1.0)
        x[..., list(columns)] = 1.0
        return x

    assert edge_agreement(line(4), line(5), tolerance=1) == 1.0
    assert edge_agreement(line(4), line(5)) == 0.0
    # Of two lines one is near, so p = 1/2; what was wanted is all found, r = 1.
    assert edge_agreement(line(1, 8), line(2), tolerance=1).item() == pytest.approx(2 / 3)
    assert edge_agreement(line(), line()) == 1.0
    assert edge_agreement(line(), line(3)) == 0.0
