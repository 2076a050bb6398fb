"""Augmentations of what a discriminator sees, against their definitions, their rates and their gradients."""

import pytest
import torch

from reverie.core.noise import KeyedNoise
from reverie.maths.augmentation import POLICIES, adapted, augmented, colour, cutout, translation


def rows(count: int, channels: int = 3, side: int = 8) -> torch.Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(0)) + 1


def noise(count: int) -> KeyedNoise:
    return KeyedNoise(0, torch.arange(count))


def test_translation_moves_whole_images_and_brings_in_zeros() -> None:
    x = rows(200)
    y = translation(x, noise(200))
    moves = set()
    for image, moved in zip(x, y, strict=True):
        hits = [
            (down, right)
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            if torch.equal(
                moved[:, max(0, -down) : 8 - max(0, down), max(0, -right) : 8 - max(0, right)],
                image[:, max(0, down) : 8 - max(0, -down), max(0, right) : 8 - max(0, -right)],
            )
        ]
        assert len(hits) == 1
        (down, right) = hits[0]
        assert (moved == 0).sum() == 3 * (8 * 8 - (8 - abs(down)) * (8 - abs(right)))
        moves.add(hits[0])
    assert len(moves) == 9


def test_cutout_covers_a_square_of_half_a_side() -> None:
    covered = (cutout(rows(500), noise(500)) == 0).all(1)
    for image in covered:
        down, right = image.any(1).sum(), image.any(0).sum()
        assert image.sum() == down * right
        assert 2 <= min(down, right) <= max(down, right) <= 4  # cut off at the edges by half at most
    assert (covered.sum((1, 2)) == 16).float().mean() > 0.2
    assert bool(covered.any(0).all()), "every place is covered now and then"


def test_colour_by_its_three_draws() -> None:
    x = rows(4)
    brightness, saturation, contrast = noise(4).uniform(3, 1, 1, 1).unbind(1)
    y = colour(x, noise(4))
    mean = (x + brightness - 0.5).mean((1, 2, 3), keepdim=True)
    assert torch.allclose(y.mean((1, 2, 3), keepdim=True), mean, atol=1e-6)  # saturation and contrast keep it
    grey = x.mean(1, keepdim=True)
    spread = (y - y.mean(1, keepdim=True)) / (x - grey)
    assert torch.allclose(spread, (2 * saturation * (contrast + 0.5)).expand_as(spread), rtol=1e-3)
    one = colour(x[:, :1], noise(4))
    kept = (x[:, :1] - x[:, :1].mean((1, 2, 3), keepdim=True)) * (contrast + 0.5)
    assert torch.allclose(one - one.mean((1, 2, 3), keepdim=True), kept, atol=1e-5), "grey has no saturation"


@pytest.mark.parametrize("name", POLICIES)
def test_each_row_by_its_own_noise_and_with_its_probability(name: str) -> None:
    x = rows(2000)
    y = augmented(x, noise(2000), [name], 0.3)
    changed = (y != x).flatten(1).any(1).float().mean().item()
    still = 1 / 9 if name == "translation" else 0.0  # moved by nothing
    assert changed == pytest.approx(0.3 * (1 - still), abs=0.03)
    part = augmented(x[50:60], KeyedNoise(0, torch.arange(50, 60)), [name], 0.3)
    assert torch.allclose(part, y[50:60], atol=1e-6)
    assert torch.equal(augmented(x, noise(2000), [name], 0.0), x)


def test_gradients_go_through_twice() -> None:
    x = rows(2, side=6).double().requires_grad_()
    run = lambda x: augmented(x, noise(2), list(POLICIES), 1.0) ** 2  # noqa: E731
    assert torch.autograd.gradcheck(run, (x,), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (x,), fast_mode=True)


def test_probability_follows_how_sure_the_discriminator_is() -> None:
    p = torch.tensor(0.5)
    assert adapted(p, torch.tensor(0.9), 0.6, 32, 1600).item() == pytest.approx(0.52)  # r = 0.8
    assert adapted(p, torch.tensor(0.7), 0.6, 32, 1600).item() == pytest.approx(0.48)  # r = 0.4
    assert adapted(torch.tensor(0.99), torch.tensor(1.0), 0.6, 32, 1600).item() == 1.0
    assert adapted(torch.tensor(0.01), torch.tensor(0.5), 0.6, 32, 1600).item() == 0.0
