"""Precision, recall, density and coverage against a set made by hand and a count of every pair."""

import pytest
import torch
from torch import Tensor

from reverie.core.errors import RequestError
from reverie.evaluation import coverage as module
from reverie.evaluation.coverage import coverage, squared_radii
from reverie.evaluation.intervals import around, of_share
from reverie.evaluation.recognition import class_shares, confident, recognised


def by_every_pair(real: Tensor, fake: Tensor, k: int) -> list[float]:
    """Naeem et al., Equations 3 to 5, one pair at a time."""

    def ball(points: Tensor, i: int) -> float:
        return sorted(float((points[i] - p).norm()) for j, p in enumerate(points) if j != i)[k - 1]

    in_real = [[float((x - y).norm()) < ball(real, j) for j, y in enumerate(real)] for x in fake]
    in_fake = [[float((x - y).norm()) < ball(fake, i) for i, x in enumerate(fake)] for y in real]
    return [
        sum(map(any, in_real)) / len(fake),
        sum(map(any, in_fake)) / len(real),
        sum(map(sum, in_real)) / (k * len(fake)),
        sum(any(row[j] for row in in_real) for j in range(len(real))) / len(real),
    ]


def test_points_on_a_line() -> None:
    # Real balls (k = 1): 0±1, 1±1, 3±2, 10±7. Samples: 0.5 is in the first two; 6 in 10's; 30 in none.
    real, fake = torch.tensor([[0.0], [1.0], [3.0], [10.0]]), torch.tensor([[0.5], [6.0], [30.0]])
    assert torch.equal(squared_radii(real, real.mean(0), 1), torch.tensor([1.0, 1.0, 4.0, 49.0]))
    found = coverage(real, fake, k=1)
    assert found.precision.value == pytest.approx(2 / 3)
    assert found.density.value == pytest.approx(3 / 3)
    assert found.coverage.value == pytest.approx(3 / 4)
    assert found.recall.value == pytest.approx(4 / 4)  # 0.5±5.5 holds 0, 1 and 3; 6±5.5 holds 10


@pytest.mark.parametrize("k", [1, 3])
def test_equals_the_count_of_every_pair(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 7)  # several blocks, the last one short
    generator = torch.Generator().manual_seed(k)
    real = torch.randn(30, 3, generator=generator, dtype=torch.float64)
    fake = torch.randn(25, 3, generator=generator, dtype=torch.float64) * 0.7 + 0.3
    assert [e.value for e in coverage(real, fake, k)] == pytest.approx(by_every_pair(real, fake, k))


@pytest.mark.parametrize(
    ("size", "rows", "shift", "scale"),
    [(8, 300, 0.0, 1.0), (8, 300, 0.7, 0.8), (8, 400, 0.0, 0.6), (16, 300, 0.5, 1.2), (2, 300, 0.0, 1.0)],
)
def test_intervals_cover_what_they_are_of(size: int, rows: int, shift: float, scale: float) -> None:
    """200 redraws of the samples against the same real rows."""
    generator = torch.Generator().manual_seed(size)
    real = torch.randn(rows, size, generator=generator)
    found = [
        coverage(real, scale * torch.randn(rows, size, generator=generator) + shift / size**0.5) for _ in range(200)
    ]
    for name in ("precision", "recall", "density", "coverage"):
        estimates = [getattr(f, name) for f in found]
        mean = sum(e.value for e in estimates) / 200
        inside = sum(e.low <= mean <= e.high for e in estimates) / 200
        assert 0.9 <= inside <= 0.995, name


def test_the_variance_of_a_share_by_hand() -> None:
    """Five rows: two are reached by sample 0 alone, one by 1 alone, one by both, one by none."""
    hits = module._Hits(5)
    hits.add(torch.tensor([[1, 1, 0, 1, 0]]).bool(), 0)
    hits.add(torch.tensor([[0, 0, 1, 1, 0]]).bool(), 1)
    variance = (2**2 + 1**2 - 0.5 * 1**2) / 5**2 - (3 / 5) ** 2 / 4
    assert hits.share(4) == around(4 / 5, variance**0.5, 2, low=0.0)._replace(high=1.0)


def test_nothing_reached_is_not_known_to_be_nothing() -> None:
    """No sample near any real row: Wilson's upper end for 0 of 40, as for the precision."""
    real, far = torch.randn(60, 3), torch.randn(40, 3) * 0.01 + 100.0
    found = coverage(real, far)
    end = 1.96**2 / (40 + 1.96**2)
    for name in ("precision", "recall", "density", "coverage"):
        estimate = getattr(found, name)
        assert (estimate.value, estimate.low) == (0.0, 0.0), name
        assert estimate.high == pytest.approx(end, rel=1e-3), name


def test_intervals_stay_within_what_is_possible() -> None:
    real = torch.linspace(0, 1, 40)[:, None]
    samples = torch.cat([real[:1], torch.full((39, 1), 9.0)])  # one sample of forty among the rows
    density = coverage(real, samples).density
    assert density.low == 0.0 < density.value
    for count in range(1, 2000, 7):
        for hits in (0, count):
            share = of_share(hits, count)
            assert share.low <= share.value <= share.high


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(RequestError, match="more than 5"):
        coverage(torch.randn(5, 2), torch.randn(50, 2))


def test_recognition_by_hand() -> None:
    logits = torch.tensor([[9.0, 0.0, 0.0], [0.0, 0.1, 0.0], [0.0, 0.0, 9.0], [9.0, 0.0, 0.0]])
    assert recognised(logits, torch.tensor([0, 1, 1, -1])) == pytest.approx(2 / 3)  # the unlabelled row is left out
    assert class_shares(logits).tolist() == [0.5, 0.25, 0.25]
    assert confident(logits) == pytest.approx(3 / 4)
