"""The embedded avatars: their pictures show what their attributes say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from reverie.core.errors import RequestError
from reverie.data import DataConfig, open_data
from reverie.data.inspect import inspect
from reverie.data.sources.avatars import avatars_source
from reverie.data.sources.digits import BUILTIN


def test_rows_attributes_and_pictures_agree(tmp_path: Path):
    dataset = open_data(DataConfig(source="avatars"), cache=tmp_path)
    assert dataset.space.shape == (3, 64, 64)
    assert (len(dataset.train), len(dataset.held_out), len(dataset.classes)) == (3600, 400, 20)
    rows = list(dataset.train.table)
    assert [dataset.classes[k] for k in dataset.train.labels[:50]] == [row["hair"] for row in rows[:50]]
    assert len({tuple(row[k] for k in row if k not in ("index", "text")) for row in rows}) == 3600
    index = np.arange(3600)
    x = dataset.train.pixels(index).astype(float)
    chest = np.median(x[:, :, 61:, 22:42].reshape(3600, 3, -1), axis=2)  # clothes, at the lower edge
    face = np.median(x[:, :, 24:40, 20:44].reshape(3600, 3, -1), axis=2)
    for colour, channel in (("red", 0), ("green", 1), ("blue", 2)):
        worn = np.array([row["clothing_color"] == colour for row in rows])
        assert (chest[worn].argmax(1) == channel).mean() > 0.95
    dark = np.array([row["dark_skin"] for row in rows])
    assert np.median(face[dark]) < np.median(face[~dark]) - 30
    eyes = x[:, :, 28:36, 20:44].mean((1, 2, 3))
    shades = np.array([row["sunglasses"] for row in rows])
    assert np.median(eyes[shades & ~dark]) < np.median(eyes[~shades & ~dark]) - 40
    assert all(row["glasses"] for row in rows if row["sunglasses"])


def test_any_attribute_may_be_the_label_and_stands_in_the_report(tmp_path: Path):
    smiling = inspect(DataConfig(source="avatars:smiling"), tmp_path)
    assert smiling.dataset.classes == ("no", "yes")
    assert smiling.attributes["smiling"] == smiling.classes
    assert set(smiling.attributes["eyes"]) == {"open", "glasses", "happy", "sleep", "wink", "sunglasses"}
    assert "text" not in smiling.attributes
    assert "index" not in smiling.attributes
    colour = avatars_source("hair_color")
    assert len(colour.described.facts.classes) == 7
    unknown = [row["hair_color"] is None for row in map(json.loads, colour.described.lines)]
    assert [label < 0 for label in colour.described.facts.labels] == unknown
    assert colour.content != avatars_source("smiling").content, "packs hold labels"
    with pytest.raises(RequestError, match="did you mean 'smiling'"):
        avatars_source("smilling")


def test_they_are_small_and_their_licence_is_beside_them():
    files = list(BUILTIN.glob("avatars*"))
    assert sum(file.stat().st_size for file in files) < 4e6
    assert "CC BY 4.0" in (BUILTIN / "avatars-NOTICE.txt").read_text()
