"""Degradations against Pillow and by hand; the restoring denoiser against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import reverie
from reverie.core.batch import Batch, Condition
from reverie.core.capabilities import Denoises
from reverie.core.errors import RequestError
from reverie.core.noise import KeyedNoise
from reverie.core.player import Progress, Turn
from reverie.core.space import Space
from reverie.data import DataConfig, open_data
from reverie.maths.degradations import Colourisation, Inpainting, SuperResolution

SPACE = Space((3, 16, 16), depth=256)
SMALL = {"model.network": {"name": "unet", "width": 8, "multipliers": [1]}, "model.sampling.steps": 2}


def noise(rows, stream=""):
    return KeyedNoise(0, torch.arange(rows), stream)


def images(rows=4, stream="x"):
    return noise(rows, stream).uniform(*SPACE.shape) * 2 - 1


def model(recipe, **changes):
    named = {"model." + k.replace("__", "."): v for k, v in changes.items()}
    return reverie.create(recipe, SPACE, changes={**SMALL, **named})


def turn(x):
    ids = torch.arange(len(x))
    return Turn(Batch(x, Condition(), ids, ids), KeyedNoise(0, ids, "turn"), Progress())


class Sees(torch.nn.Module):
    """A network that takes what it sees for the clean image; at t = 1 its velocity is x_1 less that."""

    def forward(self, x, t, condition=None, residuals=()):
        return x - condition.image[:, : x.shape[1]]


def test_reduction_is_pillows_bicubic():
    x = images(1)
    small = SuperResolution(4).small(x)
    for channel in range(3):
        picture = Image.fromarray(x[0, channel].numpy())
        theirs = np.asarray(picture.resize((4, 4), Image.Resampling.BICUBIC))
        np.testing.assert_allclose(small[0, channel].numpy(), theirs, atol=1e-5)
    assert SuperResolution(4)(x, noise(1)).shape == x.shape
    flat = torch.full((1, 3, 16, 16), 0.3)
    torch.testing.assert_close(SuperResolution(4)(flat, noise(1)), flat)
    points = torch.tensor([[1.0, 2.0, 6.0]])
    assert SuperResolution(4)(points, noise(1)).tolist() == [[3.0]]


def test_holes_are_boxes_of_the_sizes_asked_for():
    x = images(200)
    hole = Inpainting(0.25, 0.5)
    seen = hole(x, noise(200, "hole"))
    assert seen.shape == (200, 4, 16, 16) == (200, hole.maps(SPACE), 16, 16)
    known = seen[:, 3:] > 0
    assert torch.equal(seen[:, :3], torch.where(known, x, torch.zeros_like(x)))
    rows, columns = (~known[:, 0]).any(2), (~known[:, 0]).any(1)
    assert torch.equal(~known[:, 0], rows[:, :, None] & columns[:, None]), "a box is a product"
    for inside in (rows, columns):
        lengths = inside.sum(1)
        assert set(lengths.tolist()) == {4, 5, 6, 7, 8}
        edges = inside.int().diff(dim=1).ne(0).sum(1) + inside[:, 0].int() + inside[:, -1].int()
        assert (edges == 2).all(), "one stretch"
        assert inside.any(0).all(), "anywhere in the image"
    assert torch.equal(hole(x[:7], noise(7, "hole")), seen[:7]), "a row's hole is its own"
    other = images(200, "other")
    kept = hole.keep(other, seen)
    assert torch.equal(torch.where(known, kept, 0.0), torch.where(known, x, 0.0))
    assert torch.equal(torch.where(known, 0.0, kept), torch.where(known, 0.0, other))


def test_grey_by_hand():
    x = torch.tensor([1.0, -1.0, 0.5]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    torch.testing.assert_close(Colourisation()(x, noise(1)), torch.full((1, 1, 2, 2), 0.299 - 0.587 + 0.057))


def test_one_step_from_noise_is_the_mean_given_what_is_seen():
    restores = model("sr3", sampling__steps=1)
    restores.network = Sees()
    seen = restores.observe(images(), noise(4))
    x = restores.sample(noise(4, "s"), Condition(image=seen))
    torch.testing.assert_close(x, seen, rtol=0, atol=1e-6)


def test_what_is_restored_are_rows_of_the_models_shape():
    restores = model("sr3")
    with pytest.raises(RequestError, match=r"draws from rows of \S+; those of ring are 2$"):
        open_data(DataConfig(source="ring")).asks(restores.space, restores)


class Blind(torch.nn.Module):
    """A network that puts out what it sees, where it is given no noise."""

    def forward(self, x, t, condition=None, residuals=()):
        assert not x.any()
        return condition.image


def test_the_regression_puts_out_the_mean_and_sees_no_noise():
    restores = model("sr3", regression=True)
    restores.network = Blind()
    x = images(6)
    seen = restores.observe(x, noise(6))
    torch.testing.assert_close(restores.loss(turn(x)).terms["error"], (x - seen).square().mean())
    assert torch.equal(restores.sample(noise(6, "s"), Condition(image=seen)), seen)
    assert restores.view(Denoises) is None
    assert model("sr3").view(Denoises) is not None


def test_what_is_known_is_kept_exactly():
    restores = model("palette-inpainting").eval()
    seen = restores.observe(images(), noise(4))
    known = seen[:, 3:] > 0
    x = restores.sample(noise(4, "s"), Condition(image=seen))
    assert torch.equal(torch.where(known, x, 0.0), torch.where(known, images(), 0.0))
    assert (x - images()).abs().sum() > 0


def test_a_small_image_is_enlarged_as_in_training():
    restores = model("sr3").eval()
    restores.network.stem.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    restores.network.head.weight.data.normal_(generator=torch.Generator().manual_seed(1))
    x = images()
    small, enlarged = restores.degradation.small(x), restores.observe(x, noise(4))
    given = restores.sample(noise(4, "s"), Condition(image=small))
    assert torch.equal(given, restores.sample(noise(4, "s"), Condition(image=enlarged)))
    assert not torch.equal(given, restores.sample(noise(4, "s"), Condition(image=-small))), "what is seen matters"


def test_what_cannot_be_restored():
    for recipe, space, changes, says in [
        ("sr3", Space((1, 18, 16)), {}, "factor = 4 does not divide images of 18 × 16"),
        ("palette-colourisation", Space((1, 16, 16)), {}, "grey already|are grey"),
        ("palette-inpainting", SPACE, {"model.hole": [0.5, 0.25]}, "hole"),
        ("sr3", Space((16,), levels=4), {}, "not integers"),
    ]:
        with pytest.raises(RequestError, match=says):
            reverie.create(recipe, space, changes=changes)
    with pytest.raises(RequestError, match="this model restores images"):
        model("sr3").sample(noise(2))
    with pytest.raises(RequestError, match="16 × 16 pixels, as in training"):
        model("palette-inpainting").sample(noise(2), Condition(image=torch.zeros(2, 4, 8, 8)))
    with pytest.raises(RequestError, match="this model was trained on maps of 3"):
        model("sr3").sample(noise(2), Condition(image=torch.zeros(2, 1, 16, 16)))
