"""Drawn scenes: what is said of a picture is what the picture shows."""

from __future__ import annotations

import math
import re
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch

from reverie.core.errors import RequestError
from reverie.data import DataConfig, Feed, open_data
from reverie.data.dataset import Dataset
from reverie.data.scene_reader import read_labels
from reverie.data.scenes import (
    BLOCK,
    COLOURS,
    GROUNDS,
    PLACES,
    SHAPES,
    UPRIGHT,
    Scenes,
    boxes,
    compose,
    coverage,
    draw,
    labels,
    layout,
)
from reverie.maths.edges import edges

NUMBERS = np.arange(-100, 100)


@cache
def opened(size: int = 32, **settings: object) -> Dataset:
    return open_data(DataConfig(source="scenes", size=size, **settings))


def inside(shown: np.ndarray, reach: int) -> np.ndarray:
    """Pixels that all within ``reach`` pixels show the same as."""
    padded = np.pad(shown, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    height, width = shown.shape[1:]
    steps = range(2 * reach + 1)
    return np.logical_and.reduce([padded[:, i : i + height, j : j + width] == shown for i in steps for j in steps])


@pytest.mark.parametrize("size", [32, 64])
def test_every_object_is_seen_in_its_colour_in_its_box_and_at_its_place(size: int):
    found = compose(NUMBERS)
    pictures, shown = draw(found, size), layout(found, size)
    extents, within = boxes(shown), inside(shown, 1)
    plain = inside(shown, 3)  # the tip of a star covers a little of a few pixels of the ground
    for i in range(len(NUMBERS)):
        ground = np.array(tuple(GROUNDS.values())[found.ground[i]])
        assert (pictures[i][:, plain[i] & (shown[i] == 0)] == ground[:, None]).all()
        for k in range(found.count[i]):
            mine = shown[i] == k + 1
            colour = np.array(tuple(COLOURS.values())[found.colour[i, k]])
            # All but where the border of a nearer one lies over it.
            assert (pictures[i][:, within[i] & mine] == colour[:, None]).all(0).sum() >= 0.8 * (within[i] & mine).sum()
            nearest = np.abs(pictures[i][:, mine].T[:, None] - np.array(tuple(COLOURS.values()))).sum(2).argmin(1)
            assert np.bincount(nearest).argmax() == found.colour[i, k]
            rows, columns = np.nonzero(mine)
            assert extents[i, k].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            middle = (extents[i, k, :2] + extents[i, k, 2:]) / (2 * size)
            thirds = {0: "left", 1: "", 2: "right"}, {0: "top", 1: "", 2: "bottom"}
            across, down = (thirds[axis][int(3 * found.centre[i, k, axis])] for axis in (0, 1))
            assert PLACES[found.place[i, k]] == (f"{down} {across}".strip() or "middle")
            assert np.abs(middle - found.centre[i, k]).max() < 0.11, (
                "the box is around the place, but for what is hidden"
            )
        assert set(np.unique(shown[i])) <= set(range(found.count[i] + 1))


def test_captions_attributes_and_labels_say_the_same():
    dataset = opened()
    rows = dataset.train.table[200:300]
    pattern = re.compile(r"a (large|small) (\w+) (\w+) (?:at|on|in) the ([a-z ]+)")
    for row, label in zip(rows, dataset.train.labels[200:300], strict=True):
        listed, ground = row["text"].rsplit(", on ", 1)
        said = [pattern.fullmatch(part).groups() for part in re.split(r", | and ", listed)]
        assert said == [(o["size"], o["colour"], o["shape"], o["place"]) for o in row["objects"]]
        assert ground == row["ground"]
        assert dataset.classes[label] == f"{row['objects'][0]['colour']} {row['objects'][0]['shape']}"
        assert all(
            0 <= o["box"][0] < o["box"][2] <= 32 and 0 <= o["box"][1] < o["box"][3] <= 32 for o in row["objects"]
        )
    assert dataset.train.table[250] == rows[50]
    assert dataset.held_out.table[0]["index"] == -1
    assert len(dataset.classes) == 48
    assert sorted(np.bincount(dataset.train.labels, minlength=48))[0] > 900


def one(shape: str, angle: float, radius: float = 0.3) -> Scenes:
    """A single shape in the middle."""
    three = np.ones((1, 3), np.int64)
    return Scenes(
        count=np.array([1]),
        shape=three * SHAPES.index(shape),
        colour=three * 0,
        place=three * 4,
        centre=np.full((1, 3, 2), 0.5),
        radius=np.full((1, 3), radius),
        angle=np.full((1, 3), angle),
        depth=np.arange(3)[None],
        ground=np.array([0]),
    )


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ("circle", math.pi * 0.9**2),
        ("ring", math.pi * (0.96**2 - 0.48**2)),
        ("square", (2 * 0.78) ** 2),
        ("triangle", 3 * math.sqrt(3) * 0.56**2),  # of inradius 0.56
        ("cross", 2 * (0.6 * 1.9) - 0.6**2),
        ("star", 5 * 1.12 * 0.5 * math.sin(math.pi / 5)),  # ten triangles between tips and notches
    ],
)
def test_a_shape_covers_its_area_however_it_is_turned(shape: str, area: float):
    for angle in (0.0, 0.4):
        covered = coverage(one(shape, angle), 256)[0, 0]
        assert covered.sum() / (0.3 * 256) ** 2 == pytest.approx(area, rel=0.005)
    upright = coverage(one(shape, 0.0), 256)[0, 0]
    np.testing.assert_allclose(upright, upright[:, ::-1], atol=1e-3)
    period = {"square": 90, "cross": 90, "star": 72}.get(shape)
    if SHAPES.index(shape) in UPRIGHT:
        np.testing.assert_allclose(coverage(one(shape, 1.0), 256)[0, 0], upright, atol=1e-3)
    elif period is not None:
        turned = coverage(one(shape, math.radians(period)), 256)[0, 0]
        np.testing.assert_allclose(turned, upright, atol=0.05)
        assert np.abs(coverage(one(shape, math.radians(period / 2)), 256)[0, 0] - upright).max() > 0.9


def test_angles_are_clockwise_and_the_pose_map_points_to_the_upper_end():
    found = one("triangle", math.radians(25))
    tip = np.argwhere(layout(found, 128)[0] == 1)[0]  # the first row has the tip alone: (row, column)
    assert tip[1] > 64
    from reverie.data.sources.scenes import pose_map

    dots, lines = pose_map(found, 128)[0]
    assert np.argwhere(dots > 200).mean(0) == pytest.approx([63.5, 63.5])
    end = np.argwhere(lines > 127)[0]
    expected = 64 - 0.3 * 128 * math.cos(math.radians(25)), 64 + 0.3 * 128 * math.sin(math.radians(25))
    assert np.abs(end - np.array(expected)).max() < 4
    assert pose_map(one("ring", 0.0), 128)[0, 1].max() == 0


def test_a_scene_depends_on_its_number_alone():
    numbers = np.array([7, -3, 10**12])
    together = draw(compose(numbers), 32)
    for number, picture in zip(numbers, together, strict=True):
        np.testing.assert_array_equal(draw(compose(np.array([number])), 32)[0], picture)
    many = BLOCK // 32**2 * 2 + 3  # more than are drawn at once
    np.testing.assert_array_equal(draw(compose(np.arange(many)), 32)[-1], draw(compose(np.array([many - 1])), 32)[0])
    few, more = opened(), open_data(DataConfig(source="scenes:60000"))
    index = np.array([0, 49_999])
    np.testing.assert_array_equal(few.train.pixels(index), more.train.pixels(index))
    np.testing.assert_array_equal(few.held_out.pixels(index[:1]), more.held_out.pixels(index[:1]))
    assert (len(more.train), len(more.held_out)) == (60_000, 10_000)
    assert few.hash != more.hash


def test_nothing_much_is_hidden():
    found = compose(np.arange(4000))
    whole, shown = coverage(found, 32) >= 0.5, layout(found, 32)
    seen = np.stack([(shown == k + 1).sum((1, 2)) for k in range(3)], axis=1)
    share = np.where(found.present, seen / np.maximum(whole.sum((2, 3)), 1), 1.0)
    assert share[:, 0].min() > 0.75
    assert share.min() > 0.3
    assert np.quantile(share, 0.01) > 0.85


def test_maps_agree_with_the_picture_they_belong_to():
    index = np.arange(64)
    for size in (32, 64):
        planes = opened(size, maps="layout").held_out.take(index)[1].image
        found = compose(-1 - index)
        shown = torch.from_numpy(layout(found, size).astype(np.int64))
        assert planes.shape == (64, 6, size, size)
        kinds = torch.from_numpy(np.concatenate([np.full((64, 1), -1), found.shape], axis=1))
        expected = torch.gather(kinds, 1, shown.flatten(1)).view(64, size, size)
        assert torch.equal(torch.where(planes.max(1).values > 0, planes.argmax(1), -1), expected)
        depth = opened(size, maps="depth").held_out.take(index)[1].image[:, 0]
        for i in range(64):
            order = sorted(range(found.count[i]), key=lambda k, i=i: found.depth[i, k])
            levels = [depth[i][shown[i] == k + 1].unique() for k in order]
            assert all(len(level) == 1 for level in levels)
            assert all(far < near for far, near in pairwise(levels))
            assert levels[-1] == 1.0
            assert depth[i][shown[i] == 0].max() == -1.0


def test_maps_are_cropped_flipped_and_turned_as_their_pictures_are():
    settings = {"crop": "random", "flip": True, "turn": True}
    batch = Feed(opened(maps="layout", **settings), seed=3).batch(0, 96)
    planes = batch.condition.image.max(1).values > 0
    ground = torch.tensor(list(GROUNDS.values())) / 127.5 - 1
    far = (batch.x[:, None] - ground[None, :, :, None, None]).abs().amax(2).amin(1) > 0.2  # what is not ground
    agree = ((far == planes).double().mean((1, 2))).min()
    assert agree > 0.9  # borders apart
    unturned = opened(maps="layout").train.take(batch.index.numpy())[1].image.max(1).values > 0
    assert (unturned == planes).double().mean((1, 2)).min() < 0.9
    batch = Feed(opened(maps="edges", **settings), seed=3).batch(0, 8)
    assert torch.equal(batch.condition.image, edges(batch.x))


def test_grey_and_wrong_requests():
    grey = open_data(DataConfig(source="scenes", channels=1, size=16))
    assert grey.space.shape == (1, 16, 16)
    assert grey.train.take(np.arange(2))[0].shape == (2, 1, 16, 16)
    for source, settings, said in (
        ("scenes:many", {}, "number of training scenes"),
        ("scenes:0", {}, "number of training scenes"),
        ("scenes", {"size": 8}, "data.size=16"),
        ("scenes", {"maps": "layuot"}, "did you mean 'layout'"),
        ("digits", {"maps": "depth"}, "edges"),
        ("ring", {"maps": "edges"}, "points"),
    ):
        with pytest.raises(RequestError, match=said):
            open_data(DataConfig(source=source, **settings))


def test_scenes_are_read_back_from_their_pixels():
    numbers = np.arange(-150, 0)
    pictures = draw(compose(numbers), 32)
    read = read_labels(pictures)
    assert (read == labels(numbers)).mean() > 0.96
    noisy = pictures + np.random.default_rng(0).normal(0, 20, pictures.shape)
    assert (read_labels(np.clip(noisy, 0, 255).astype(np.uint8)) == labels(numbers)).mean() > 0.96
    alone = [one(shape, 0.3 if k not in UPRIGHT else 0.0, 0.2) for k, shape in enumerate(SHAPES)]
    assert [read_labels(draw(scene, 32))[0] for scene in alone] == [k * len(COLOURS) for k in range(len(SHAPES))]


def test_what_shows_no_shape_is_read_as_none():
    blank = np.full((1, 3, 32, 32), 245, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (20, 3, 32, 32), dtype=np.uint8)
    stripes = np.array(COLOURS["red"], np.uint8)[None, :, None, None].repeat(32, 2).repeat(32, 3)
    stripes[..., 4:] = 20
    assert (read_labels(np.concatenate([blank, noise, stripes])) == -1).all()
