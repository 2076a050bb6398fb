"""Inception Score, class shares, memorisation, similarity and Wasserstein distances against closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from reverie.data.toys import TOYS, Mixture, sample
from reverie.evaluation.inception_score import inception_score
from reverie.evaluation.measures.memorisation import median
from reverie.evaluation.measures.support import alike
from reverie.evaluation.memorisation import memorisation, relative_distance
from reverie.evaluation.modes import divergence_of_shares, good_and_reached, support_size
from reverie.evaluation.similarity import psnr, ssim
from reverie.evaluation.text import agreement
from reverie.evaluation.wasserstein import exact_wasserstein, sliced_wasserstein


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_inception_score_of_sure_even_and_unsure_classes() -> None:
    sure = 50.0 * torch.eye(4).repeat(5, 1)
    assert inception_score(sure).value == pytest.approx(4.0)
    assert inception_score(sure[:1].repeat(9, 1)).value == pytest.approx(1.0)
    assert inception_score(torch.zeros(20, 4)).value == pytest.approx(1.0)
    two = torch.log(torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
    nats = 0.9 * math.log(1.8) + 0.1 * math.log(0.2)
    assert inception_score(two).value == pytest.approx(math.exp(nats))


def test_inception_score_cannot_see_memorisation() -> None:
    """One image a class, a hundred times each, beats varied images that a classifier is a little less sure of."""
    copied = 20.0 * torch.eye(10).repeat(100, 1)
    varied = 6.0 * torch.eye(10).repeat(100, 1) + torch.randn(1000, 10, generator=generator())
    assert inception_score(copied).value > inception_score(varied).value > 7.0


def test_intervals_of_the_inception_score_cover_its_expectation() -> None:
    found = []
    for seed in range(200):
        classes = torch.randint(5, (300,), generator=generator(seed))
        noise = torch.randn(300, 5, generator=generator(1000 + seed))
        found.append(inception_score(2.0 * torch.nn.functional.one_hot(classes, 5) + noise))
    mean = sum(f.value for f in found) / 200
    assert 0.9 <= sum(f.low <= mean <= f.high for f in found) / 200 <= 0.99


@pytest.mark.parametrize("tilt", [0.0, 0.25, 0.5, 2.0])
def test_divergence_of_shares_and_its_interval(tilt: float) -> None:
    shares = torch.full((20,), 0.05, dtype=torch.float64)
    q = torch.softmax(tilt * torch.linspace(-1, 1, 20, dtype=torch.float64), 0)
    true = float((q * (q / shares).log()).sum())
    draws = torch.multinomial(q, 200 * 1000, replacement=True, generator=generator()).view(200, 1000)
    found = [divergence_of_shares(row.bincount(minlength=20), shares) for row in draws]
    mean = sum(f.value for f in found) / 200
    assert mean == pytest.approx(true + 19 / 2000, rel=0.05)  # the plug-in's known bias
    covered = sum(f.low <= mean <= f.high for f in found) / 200
    assert 0.9 <= covered <= (1.0 if tilt == 0.0 else 0.995)  # where q = p it is known to be too wide
    missing = divergence_of_shares(torch.tensor([5, 0]), torch.tensor([0.5, 0.5]))
    assert missing.value == pytest.approx(math.log(2))


def twins(draws: torch.Tensor) -> torch.Tensor:
    return (draws[:, None] == draws).sum(1) - 1


@pytest.mark.parametrize("tilt", [0.0, 1.0])
def test_the_birthday_paradox_counts_what_a_model_can_draw(tilt: float) -> None:
    """Of 5,000 rows as likely, and of rows whose likelihoods differ: 1 / sum p^2 of them, in effect."""
    weights = torch.exp(tilt * torch.randn(5000, generator=generator(9)).double())
    p = weights / weights.sum()
    size = float(1 / p.square().sum())
    draws = torch.multinomial(p, 200 * 500, replacement=True, generator=generator(10)).view(200, 500)
    found = [support_size(twins(row)) for row in draws]
    mean = 1 / (sum(1 / f.value for f in found) / 200)
    assert mean == pytest.approx(size, rel=0.06)
    assert 0.9 <= sum(f.low <= size <= f.high for f in found) / 200 <= 0.995
    none = support_size(torch.zeros(50))
    assert none.high is None
    assert none.value == none.low
    assert none.low == pytest.approx(50 * 49 / 2 / -math.log(0.025))  # a count whose chance of 0 is 2.5 %
    rows = torch.tensor([[0.0, 0.0], [0.0, 0.9], [5.0, 0.0], [5.0, 0.5], [5.0, 1.2]])
    assert alike(rows, 1.0).tolist() == [1, 1, 1, 2, 1]


def test_good_points_and_modes_of_a_mixture() -> None:
    """A Gaussian of the plane has 1 - exp(-9/2) of itself within three sigma."""
    toy = TOYS["ring"]
    assert isinstance(toy, Mixture)
    centres = torch.from_numpy(toy.centres)
    points = torch.from_numpy(sample("ring", 20_000)[0])
    found = good_and_reached(points, centres, toy.sigma)
    assert found.good / 20_000 == pytest.approx(1 - math.exp(-4.5), abs=0.003)
    assert found.reached == 8
    half = torch.cat([centres[:4], centres[4:] * 1.04])  # four on their centres, four 4 sigma away
    assert good_and_reached(half, centres, toy.sigma) == (4, 4)


def test_agreement_with_texts_by_hand() -> None:
    images = torch.tensor([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0], [9.0, 9.0]])
    words = torch.tensor([[1.0, 0.0], [0.0, -7.0]])
    found = agreement(images, words, torch.tensor([0, 0, 1, -1]))
    assert found.value == pytest.approx(100 * 0.6 / 3)
    assert agreement(images, words, torch.tensor([1, 1, 1, -1])).value == 0.0  # never below


def test_memorisation_is_calibrated_and_finds_copies() -> None:
    """Under the null a twentieth of 400 tests is below 0.05; a tenth of copies among 1000 is found."""
    p = [memorisation(*torch.rand(2, 200, generator=generator(seed))).p for seed in range(400)]
    assert 0.025 <= np.mean(np.array(p) < 0.05) <= 0.08
    assert np.mean(p) == pytest.approx(0.5, abs=0.05)
    honest, held = torch.rand(2, 1000, generator=generator(7))
    copied = torch.where(torch.arange(1000) < 100, 0.0, honest)
    assert memorisation(copied, held).p < 1e-3 < memorisation(honest, held).p
    everything = memorisation(torch.zeros(1000), held)
    assert everything.p < 1e-50
    assert everything.nearer.value == 1.0
    assert memorisation(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 3.0])).nearer.value == (1 + 1 + 0 + 0.5) / 4
    draws = torch.rand(200, 300, generator=generator(8)) ** 2
    found = [memorisation(row, held).nearer for row in draws]
    mean = sum(f.value for f in found) / 200
    assert mean == pytest.approx(2 / 3, abs=0.03)  # P(u^2 < v)
    assert 0.9 <= sum(f.low <= mean <= f.high for f in found) / 200 <= 0.99
    assert relative_distance(torch.tensor([2.0, 3.0]), torch.tensor([4.0, 0.0])).tolist()[0] == 0.5


def test_intervals_of_a_median_cover_it() -> None:
    draws = torch.rand(400, 301, generator=generator()) ** 3
    found = [median(row) for row in draws]
    assert 0.93 <= sum(f.low <= 0.5**3 <= f.high for f in found) / 400 <= 0.98


def test_psnr_and_ssim_by_hand() -> None:
    x = torch.rand(3, 2, 16, 16, generator=generator()) * 2 - 1
    assert torch.allclose(psnr(x, x + 0.2), torch.full((3,), -10 * math.log10(0.01)).double(), atol=1e-4)
    assert torch.isinf(psnr(x, x)).all()
    assert torch.allclose(ssim(x, x), torch.ones(3).double())
    # Two constants a and b: variances vanish, and the luminance term is left.
    a, b = 0.3, 0.7
    flat = [torch.full((1, 1, 12, 12), 2 * v - 1) for v in (a, b)]
    assert ssim(*flat).item() == pytest.approx((2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4), rel=1e-6)
    # One window: a weighted mean, variance and covariance, written out.
    y = torch.rand(1, 1, 11, 11, generator=generator(1)).double()
    z = torch.rand(1, 1, 11, 11, generator=generator(2)).double()
    bell = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    weights = np.outer(bell, bell) / np.outer(bell, bell).sum()
    m, n = (weights * y.numpy()[0, 0]).sum(), (weights * z.numpy()[0, 0]).sum()
    v, w = (weights * (y.numpy()[0, 0] - m) ** 2).sum(), (weights * (z.numpy()[0, 0] - n) ** 2).sum()
    c = (weights * (y.numpy()[0, 0] - m) * (z.numpy()[0, 0] - n)).sum()
    by_hand = (2 * m * n + 1e-4) * (2 * c + 9e-4) / ((m**2 + n**2 + 1e-4) * (v + w + 9e-4))
    assert ssim(2 * y - 1, 2 * z - 1).item() == pytest.approx(by_hand, rel=1e-9)


def test_wasserstein_distances_on_a_line_and_in_the_plane() -> None:
    x, y = torch.randn(2, 200, 1, generator=generator(), dtype=torch.float64)
    assert exact_wasserstein(x, y) == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0]), rel=1e-12)
    assert sliced_wasserstein(x, y, p=1) == pytest.approx(exact_wasserstein(x, y), rel=1e-12)
    assert exact_wasserstein(x, x + 3.0, p=2) == pytest.approx(3.0)
    # Moving a cloud of the plane by v moves every line's by v . theta: SW_2 = |v| / sqrt(2).
    z = torch.randn(300, 2, generator=generator(1), dtype=torch.float64)
    moved = z + torch.tensor([3.0, 4.0])
    assert exact_wasserstein(z, moved, p=1) == pytest.approx(5.0)
    assert sliced_wasserstein(z, moved, lines=20_000) == pytest.approx(5.0 / 2**0.5, rel=0.02)
    assert exact_wasserstein(z, z.flip(0)) == pytest.approx(0.0, abs=1e-12)
