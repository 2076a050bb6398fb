"""Data sets in Hugging Face's formats: what becomes rows, labels and captions, and that they reach for nothing else."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reverie.core.errors import RequestError
from reverie.data import DataConfig, open_data
from reverie.data.dataset import Dataset
from reverie.data.decode import BrokenImageError
from reverie.data.sources import hub, hub_stream
from reverie.data.sources.hub_rows import image_bytes


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8))


def encoded(seed: int) -> dict[str, object]:
    stream = io.BytesIO()
    picture(seed).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set on disk: six training rows, of which one is broken and one unlabelled, and two test rows."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "cache"))
    features = datasets.Features(
        {
            "n": datasets.Value("int64"),
            "picture": datasets.Image(),
            "coarse": datasets.ClassLabel(names=["pet", "wild"]),
            "label": datasets.ClassLabel(names=["cat", "dog", "fox"]),
            "caption": datasets.Value("string"),
        }
    )

    def rows(seeds: list[int]) -> object:
        values = {
            "n": seeds,
            "picture": [encoded(seed) if seed != 2 else {"bytes": b"no image", "path": None} for seed in seeds],
            "coarse": [0] * len(seeds),
            "label": [-1 if seed == 4 else seed % 3 for seed in seeds],
            "caption": [f"picture {seed}" for seed in seeds],
        }
        return datasets.Dataset.from_dict(values, features=features)

    datasets.DatasetDict({"test": rows([10, 11]), "train": rows(list(range(6)))}).save_to_disk(tmp_path / "set")
    return tmp_path / "set"


def opened(text: str, **settings: object) -> Dataset:
    return open_data(DataConfig(source=text, **settings))


def test_a_saved_data_set_is_rows_labels_captions_and_a_test_part(saved: Path):
    dataset = opened(f"hf:{saved}")
    assert dataset.classes == ("cat", "dog", "fox")
    assert (len(dataset.train), len(dataset.held_out)) == (5, 2)
    assert dataset.train.labels.tolist() == [0, 1, 0, -1, 2], "the broken row is left out, and labels do not shift"
    assert dataset.held_out.labels.tolist() == [1, 2]
    assert [row["text"] for row in dataset.train.table] == [f"picture {k}" for k in (0, 1, 3, 4, 5)]
    assert [row["n"] for row in dataset.held_out.table] == [10, 11]
    for rows, seeds in ((dataset.train, (0, 1, 3, 4, 5)), (dataset.held_out, (10, 11))):
        expected = np.stack([np.asarray(picture(seed)).transpose(2, 0, 1) for seed in seeds])
        np.testing.assert_array_equal(rows.pixels(np.arange(len(rows))), expected)
    assert [item.name for item in dataset.skipped] == ["train/2"]
    assert any("column 'picture', labels: column 'label' (coarse would do too" in note for note in dataset.notes)
    coarse = opened(f"hf:{saved}?label=coarse&split=test")
    assert coarse.classes == ("pet", "wild")
    assert len(coarse.train) + len(coarse.held_out) == 2
    assert opened(f"hf:{saved}").hash == dataset.hash


def test_the_first_rows_are_streamed_once(saved: Path, monkeypatch: pytest.MonkeyPatch):
    some = opened(f"hf:{saved}?rows=4")
    assert [row["n"] for row in some.train.table] == [0, 1, 3]
    assert len(some.held_out) == 2
    assert some.train.labels.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(some.train.pixels(np.array([2]))[0], np.asarray(picture(3)).transpose(2, 0, 1))
    monkeypatch.setattr(hub_stream, "open_hub", lambda *arguments: pytest.fail("it is in the cache"))
    assert opened(f"hf:{saved}?rows=4").hash == some.hash


def test_a_folder_of_images_is_read_as_the_hub_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    for k, name in enumerate(("a/0.png", "b/1.png", "b/2.png")):
        file = tmp_path / "set" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(k).save(file)
    for text in (f"hf:{tmp_path / 'set'}", f"hf:{tmp_path / 'set'}?rows=9"):
        dataset = opened(text, held_out=0.0)
        assert dataset.classes == ("a", "b")
        assert sorted(dataset.train.labels.tolist()) == [0, 1, 1]


def test_a_data_set_cannot_name_files_of_this_machine(tmp_path: Path):
    pytest.importorskip("datasets")
    (tmp_path / "set").mkdir()
    picture(0).save(tmp_path / "secret.png")
    picture(0).save(tmp_path / "set" / "own.png")
    root = (tmp_path / "set").resolve()
    assert image_bytes({"bytes": None, "path": str(root / "own.png")}, root)[:4] == b"\x89PNG"
    for path in (tmp_path / "secret.png", tmp_path / "set" / ".." / "secret.png"):
        with pytest.raises(BrokenImageError, match="outside"):
            image_bytes({"bytes": None, "path": str(path)}, root)
    with pytest.raises(BrokenImageError, match="no image"):
        image_bytes(None, root)


def test_wrong_requests(saved: Path, tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"a": [1], "b": ["x"]}).save_to_disk(tmp_path / "words")
    for text, said in (
        (f"hf:{saved}?lable=coarse", "no option 'lable'; did you mean 'label'"),
        (f"hf:{saved}?label=coarce", "no column 'coarce'; did you mean 'coarse'"),
        (f"hf:{saved}?image=caption", "no column of images"),
        (f"hf:{saved}?split=trian", "did you mean 'train'"),
        (f"hf:{saved}?rows=few", "rows=5000"),
        (f"hf:{tmp_path / 'words'}", "no column of images; its columns: a, b"),
        (f"hf:{tmp_path / 'nowhere'}", "no folder"),
        ("hf:", "write hf:owner/name"),
    ):
        with pytest.raises(RequestError, match=said):
            opened(text)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(RequestError, match="cannot be opened"):
        opened(f"hf:{tmp_path / 'code'}")
    assert not (tmp_path / "ran").exists()


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(RequestError, match=r"needs the 'hub' extra: pip install '.\[hub\]'"):
        hub.hub_source("owner/name")
