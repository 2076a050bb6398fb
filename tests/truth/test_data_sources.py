"""Sources: what is found, what it is called, and that hostile ones neither crash, hang, nor are followed."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from test_data_decode import bomb, encoded
from typer.testing import CliRunner

from reverie.cli.data import data
from reverie.core.errors import RequestError
from reverie.data import DataConfig, open_data
from reverie.data.dataset import Dataset
from reverie.data.inspect import contact_sheet, inspect


def picture(seed: int, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def put(file: Path, seed: int, size: int = 16) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed, size)).save(file)


def opened(source: Path, tmp_path: Path, **settings: object) -> Dataset:
    return open_data(DataConfig(source=str(source), **settings), cache=tmp_path / "cache")


def by_name(dataset: Dataset) -> dict[str, np.ndarray]:
    assert dataset.table is not None
    rows = dataset.pool.read(np.arange(len(dataset.pool)))
    return {row["file_name"]: pixels for row, pixels in zip(dataset.table, rows, strict=True)}


def test_subfolders_become_labels_and_pixels_are_theirs(tmp_path: Path):
    for k, name in enumerate(["cat/a.png", "cat/deep/b.png", "dog/c.png"]):
        put(tmp_path / "pets" / name, k)
    raw = encoded(Image.fromarray(picture(9)))
    (tmp_path / "pets" / "cat" / "b.png").write_bytes(raw[:200])  # broken, between good ones: labels must not shift
    dataset = opened(tmp_path / "pets", tmp_path, held_out=0.0)
    assert dataset.classes == ("cat", "dog")
    assert dataset.train.labels.tolist() == [0, 0, 1]
    assert dataset.space.classes == 2
    assert dataset.space.shape == (3, 16, 16)
    x, condition = dataset.train.take(np.array([2, 0]))
    assert condition.label.tolist() == [1, 0]
    np.testing.assert_allclose((x[0].numpy() + 1) * 127.5, picture(2).transpose(2, 0, 1), atol=1e-4)
    plain = opened(tmp_path / "pets", tmp_path, held_out=0.0, condition="none")
    assert plain.space.classes == 0
    assert plain.train.take(np.array([0]))[1].label is None
    assert plain.train.labels.tolist() == [0, 0, 1]  # evaluation still counts with them


def test_a_note_says_where_rows_are_made_to_fit_settings_given_by_hand(tmp_path: Path):
    put(tmp_path / "mixed" / "large.png", 0, size=32)
    put(tmp_path / "mixed" / "small.png", 1, size=16)
    notes = opened(tmp_path / "mixed", tmp_path, size=16, channels=1, held_out=0.0).notes
    assert "1 of 2 images are larger than 16 and were made smaller" in notes
    assert "channels: 1, so colours are left out" in notes


def test_one_image_outside_the_subfolders_and_there_are_no_classes(tmp_path: Path):
    for k, name in enumerate(["cat/a.png", "dog/b.png", "c.png"]):
        put(tmp_path / "pets" / name, k)
    assert opened(tmp_path / "pets", tmp_path).classes == ()
    with pytest.raises(RequestError, match="no labels"):
        opened(tmp_path / "pets", tmp_path, condition="label")


def test_train_and_test_folders_are_the_split(tmp_path: Path):
    for k, name in enumerate(["train/cat/a.png", "train/dog/b.png", "test/cat/c.png"]):
        put(tmp_path / "pets" / name, k)
    dataset = opened(tmp_path / "pets", tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert (len(dataset.train), len(dataset.held_out)) == (2, 1)
    assert dataset.held_out.labels.tolist() == [0]


def test_metadata_gives_captions_labels_and_domains_and_never_leads_outside(tmp_path: Path):
    root = tmp_path / "set"
    for k in range(3):
        put(root / f"{k}.png", k)
    put(tmp_path / "secret.png", 9)
    rows = [
        {"file_name": "0.png", "text": "zero", "label": "b", "domain": "day"},
        {"file_name": "./1.png", "text": "one", "label": "a", "domain": "night"},
        {"file_name": "../secret.png", "text": "outside"},
        {"file_name": str(tmp_path / "secret.png"), "text": "absolute"},
        {"file_name": "nowhere.png"},
    ]
    lines = [json.dumps(row) for row in rows] + ["{broken", "[1, 2]", '{"file_name": 3}', "", "[" * 100_000]
    (root / "metadata.jsonl").write_text("\n".join(lines))
    dataset = opened(root, tmp_path, held_out=0.0)
    assert dataset.classes == ("a", "b")
    assert dataset.train.labels.tolist() == [1, 0, -1]
    assert dataset.space.classes == 2
    assert [row.get("text") for row in dataset.train.table] == ["zero", "one", None]
    assert dataset.domains == ("day", "night")
    assert [dataset.rows(where).places.tolist() for where in ("day", "labelled", "a")] == [[0], [0, 1], [1]]
    assert any("4 annotated rows name no image" in note for note in dataset.notes)
    assert any("3 lines of annotation" in note for note in dataset.notes)
    with pytest.raises(RequestError, match="did you mean 'night'"):
        dataset.rows("nigth")


def test_a_zip_holds_the_same_rows_as_its_folder(tmp_path: Path):
    root = tmp_path / "set"
    for k, name in enumerate(["cat/a.png", "dog/b.png", "dog/c.png"]):
        put(root / name, k)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in sorted(root.rglob("*.png")):
            archive.write(file, Path("top") / file.relative_to(root))
        archive.writestr("__MACOSX/top/._a.png", b"junk")
        archive.writestr("top/../../escape.png", encoded(Image.fromarray(picture(5))))
    folder, zipped = opened(root, tmp_path), opened(tmp_path / "set.zip", tmp_path)
    assert zipped.classes == folder.classes == ("cat", "dog")
    assert zipped.hash == folder.hash  # content, not container
    np.testing.assert_array_equal(zipped.train.places, folder.train.places)
    assert [item.reason for item in zipped.skipped] == ["its name points outside the zip"]
    assert not (tmp_path / "escape.png").exists()


def test_stylegan_zip(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "ffhq.zip", "w") as archive:
        for k in range(3):
            archive.writestr(f"0000{k % 2}/img{k}.png", encoded(Image.fromarray(picture(k))))
        labels = [["00000/img0.png", 10], ["00001/img1.png", 2], ["00000/img2.png", 10]]
        archive.writestr("dataset.json", json.dumps({"labels": labels}))
    dataset = opened(tmp_path / "ffhq.zip", tmp_path, held_out=0.0)
    assert dataset.classes == ("2", "10")  # sorted as numbers
    assert dataset.train.labels.tolist() == [1, 1, 0]
    with zipfile.ZipFile(tmp_path / "plain.zip", "w") as archive:
        for k in range(2):
            archive.writestr(f"0000{k}/img{k}.png", encoded(Image.fromarray(picture(k))))
        archive.writestr("dataset.json", '{"labels": null}')
    assert opened(tmp_path / "plain.zip", tmp_path).classes == ()  # storage folders are no classes


def hostile(root: Path) -> list[str]:
    """Fills a folder with everything that must not be believed; the names of the three good images in it."""
    odd = ["sp ace'\"[red].png", "new\nline \x1b[31m.PNG", "ünï-文字.png"]
    for k, name in enumerate(odd):
        put(root / name, k)
    (root / "zero.png").touch()
    (root / "text.jpg").write_text("no image")
    (root / "bomb.png").write_bytes(bomb(60_000))
    raw = encoded(Image.fromarray(picture(7)))
    (root / "cut.png").write_bytes(raw[: len(raw) // 2])
    (root / "folder.png").mkdir()
    (root / ".hidden.png").write_bytes(raw)
    (root / "page.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n")
    if hasattr(os, "mkfifo"):
        os.mkfifo(root / "pipe.png")
        (root / "round").symlink_to(root, target_is_directory=True)
        (root / "self.png").symlink_to(root / "self.png")
        (root / "gone.png").symlink_to(root / "nothing.png")
        (root / "device.png").symlink_to("/dev/zero")
    return odd


def test_a_hostile_folder_gives_its_good_images_and_a_list_of_the_rest(tmp_path: Path):
    good = hostile(tmp_path / "set")
    start = time.perf_counter()
    dataset = opened(tmp_path / "set", tmp_path, size=16, held_out=0.0)
    assert time.perf_counter() - start < 10
    rows = by_name(dataset)
    assert sorted(rows) == sorted(good)
    for k, name in enumerate(good):
        np.testing.assert_array_equal(rows[name], picture(k).transpose(2, 0, 1))
    reasons = {item.name: item.reason for item in dataset.skipped}
    assert reasons["zero.png"] == "empty file"
    assert reasons["text.jpg"] == "not an image"
    assert "more than" in reasons["bomb.png"]
    assert "cut.png" in reasons
    assert all(note.isprintable() for note in dataset.notes)
    assert dataset.pool.broken == len(reasons) == (9 if hasattr(os, "mkfifo") else 4)
    if hasattr(os, "mkfifo"):
        assert "pipe" in reasons["pipe.png"]
        assert "pipe" in reasons["device.png"]
        assert "not followed" in reasons["round"]
        assert "cannot be opened" in reasons["self.png"]
    report = inspect(DataConfig(source=str(tmp_path / "set"), size=16), tmp_path / "cache")
    assert report.broken == dataset.pool.broken


@pytest.mark.skipif(os.name != "posix", reason="names are text elsewhere")
def test_names_that_are_no_text(tmp_path: Path):
    root = tmp_path / "set"
    put(root / "a.png", 0)
    try:
        os.rename(root / "a.png", os.fsencode(root) + b"/\xff\xfe.png")
    except OSError:
        pytest.skip("this file system takes text only")
    dataset = opened(root, tmp_path)
    assert os.fsencode(dataset.table[0]["file_name"]) == b"\xff\xfe.png"


def test_nothing_usable_is_a_clear_error(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "\x1b[2J.png").touch()
    with pytest.raises(RequestError, match=r"\\x1b\[2J.png: empty file"):
        opened(tmp_path / "empty", tmp_path)
    (tmp_path / "empty" / "\x1b[2J.png").unlink()
    with pytest.raises(RequestError, match="it is empty"):
        opened(tmp_path / "empty", tmp_path)
    broken = tmp_path / "broken"
    broken.mkdir()
    for k in range(5):
        (broken / f"{k}.png").write_bytes(b"x" * k)
    with pytest.raises(RequestError, match=r"0.png: empty file; 1.png: not an image.*\(5 in all\)"):
        opened(broken, tmp_path)
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / "a.png").write_bytes(encoded(Image.fromarray(picture(0)))[:300])
    for _ in range(2):  # decoded, then from the cache
        with pytest.raises(RequestError, match=r"no image in .* can be read: a.png"):
            opened(cut, tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "readme.txt").touch()
    with pytest.raises(RequestError, match="only other files"):
        opened(tmp_path / "docs", tmp_path)
    (tmp_path / "docs" / "set.zip").touch()
    with pytest.raises(RequestError, match=r"set\.zip: a zip; name it as the source"):
        opened(tmp_path / "docs", tmp_path)
    put(tmp_path / "a.png", 0)
    with pytest.raises(RequestError, match="is one picture: name the folder"):
        opened(tmp_path / "a.png", tmp_path)
    with pytest.raises(RequestError, match="did you mean 'digits'"):
        opened(Path("digit"), tmp_path)
    (tmp_path / "no.zip").write_bytes(b"PK but no")
    with pytest.raises(RequestError, match="not a zip"):
        opened(tmp_path / "no.zip", tmp_path)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def test_idx_files_plain_and_gzip(tmp_path: Path):
    images = np.random.default_rng(0).integers(0, 256, (20, 12, 12), dtype=np.uint8)
    labels = (np.arange(20) % 3).astype(np.uint8)
    root = tmp_path / "idx"
    root.mkdir()
    (root / "train-images-idx3-ubyte").write_bytes(idx(images))
    (root / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    alone = opened(root / "train-images-idx3-ubyte", tmp_path, held_out=0.5)
    assert alone.space.shape == (1, 12, 12)
    both = np.sort(np.concatenate([alone.train.places, alone.held_out.places]))
    np.testing.assert_array_equal(both, np.arange(20))
    np.testing.assert_array_equal(alone.train.pixels(np.arange(3))[:, 0], images[alone.train.places[:3]])
    (root / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images[:4] // 2)))
    (root / "t10k-labels-idx1-ubyte").write_bytes(idx(labels[:4]))
    folder = opened(root, tmp_path)
    assert (len(folder.train), len(folder.held_out)) == (20, 4)
    np.testing.assert_array_equal(folder.held_out.pixels(np.arange(4))[:, 0], images[:4] // 2)
    np.testing.assert_array_equal(folder.train.labels, labels)
    (root / "t10k-labels-idx1-ubyte").write_bytes(idx(labels[:3]))
    with pytest.raises(RequestError, match="3 labels for 4 images"):
        opened(root, tmp_path)
    (root / "train-images-idx3-ubyte").write_bytes(idx(images)[:-1])
    with pytest.raises(RequestError, match="cut short"):
        opened(root / "train-images-idx3-ubyte", tmp_path)


def test_the_embedded_digits_are_mnist_digits_balanced(tmp_path: Path):
    dataset = open_data(DataConfig(), cache=tmp_path / "cache")
    assert np.bincount(dataset.train.labels).tolist() == [1000] * 10
    assert np.bincount(dataset.held_out.labels).tolist() == [200] * 10
    # MNIST's pixels have mean 0.1307 and deviation 0.3081 (the figures of every tutorial).
    pixels = dataset.train.pixels(np.arange(10_000)) / 255.0
    assert pixels.mean() == pytest.approx(0.1307, abs=0.002)
    assert pixels.std() == pytest.approx(0.3081, abs=0.002)


def test_the_embedded_emoji_are_aligned_and_split_together(tmp_path: Path):
    cache = tmp_path / "cache"
    colour, line = (open_data(DataConfig(source=f"emoji:{s}"), cache) for s in ("openmoji", "openmoji-line"))
    assert colour.hash != line.hash
    assert [row["emoji"] for row in colour.train.table] == [row["emoji"] for row in line.train.table]
    assert len(colour.train) + len(colour.held_out) == 1906
    assert len(colour.rows("noto")) == len(colour.train)
    assert "domain: openmoji; 5,718 rows of others are left out (openmoji-line, noto, twemoji)" in colour.notes
    # Where the line art is black, the colour drawing is dark too: OpenMoji draws its outlines black.
    index = np.array([i for i, row in enumerate(colour.train.table) if row["group"] == "smileys-emotion"][:50])
    black = line.train.pixels(index).max(axis=1) < 40
    assert colour.train.pixels(index).mean(axis=1)[black].mean() < 60
    flags = {row["emoji"]: i for i, row in enumerate(colour.table) if row["domain"] == "twemoji"}
    tricolour = colour.pool.read(np.array([flags["🇫🇷"]]))[0, :, 16].astype(int)  # blue, white, red from the left
    assert [tricolour[:, x].argmax() for x in (6, 26)] == [2, 0]
    assert tricolour[:, 16].min() > 200
    assert len(list((cache / "packed").iterdir())) == 1  # styles share one pack
    with pytest.raises(RequestError, match="did you mean 'twemoji'"):
        open_data(DataConfig(source="emoji:twmoji"), cache)


def test_a_report_is_of_the_rows_that_are_used(tmp_path: Path):
    """Copies within OpenMoji, not among its domains; nobody can remove them; a column of names is no attribute."""
    report = inspect(DataConfig(source="emoji"), tmp_path)
    pixels = [report.dataset.pool.read(np.array([i])).tobytes() for i in range(1906)]
    assert report.copies == 1906 - len(set(pixels))
    assert not any("copies" in line for line in report.advice)
    root = tmp_path / "set"
    for k in range(4):
        put(root / f"{k}.png", k)
    table = [{"file_name": f"{k}.png", "author": f"person {k}", "licence": "ab"[k % 2]} for k in range(4)]
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, table)))
    assert inspect(DataConfig(source=str(root)), tmp_path).attributes == {"licence": {"a": 2, "b": 2}}


def test_data_that_nobody_named_are_told(tmp_path: Path):
    assert any("no --data is given" in note for note in open_data(DataConfig(), tmp_path).notes)
    assert not any("--data" in note for note in open_data(DataConfig(source="digits"), tmp_path).notes)


def test_stacked_digits_are_made_of_the_digits_that_their_labels_name(tmp_path: Path):
    digits = open_data(DataConfig(), cache=tmp_path / "cache")
    stacked = open_data(DataConfig(source="stacked-digits"), cache=tmp_path / "cache")
    assert stacked.space.shape == (3, 28, 28)
    assert stacked.space.classes == 0  # labels name modes: unconditional unless asked
    assert len(np.unique(stacked.train.labels)) == 1000
    known = {digits.pool.read(np.array([i])).tobytes(): i for i in range(len(digits.pool))}
    for rows, allowed in ((stacked.train, digits.train), (stacked.held_out, digits.held_out)):
        for i in (0, 77):
            image, label = rows.pixels(np.array([i]))[0], rows.labels[i]
            places = [known[channel.tobytes()] for channel in image]
            assert set(places) <= set(allowed.places.tolist())  # no held-out digit in a training row
            assert int("".join(str(digits.pool.facts.labels[p]) for p in places)) == label


def test_a_report_counts_copies_and_draws_a_sheet(tmp_path: Path):
    root = tmp_path / "set"
    for k, name in enumerate(["cat/a.png", "cat/b.png", "dog/c.png"]):
        put(root / name, k)
    Image.fromarray(picture(0)).save(root / "dog" / "again.bmp")  # the same pixels in another format
    report = inspect(DataConfig(source=str(root)), tmp_path / "cache")
    assert report.copies == 1
    assert report.copied == (("dog/again.bmp", "cat/a.png"),)
    assert report.classes == {"cat": 2, "dog": 2}
    assert report.looks.formats == {"PNG": 3, "BMP": 1}
    assert any("data.condition=none" in line for line in report.advice)
    contact_sheet(report.dataset, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > sheet.height > 16


def test_a_sheet_that_cannot_be_written_is_told_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    monkeypatch.setattr("reverie.data.inspect.inspect", None)  # the work
    for name, told in (
        ("c.txt", "c.txt: data writes a .png file"),
        ("c", "c: data writes a .png file"),
        ("folder.png", "folder.png is a folder; data writes a .png file"),
        ("file/c.png", "file is a file, not a folder"),
    ):
        with pytest.raises(RequestError, match=told):
            data("digits", None, tmp_path / name)
        with pytest.raises(RequestError, match=told.replace("data", "contact_sheet")):
            contact_sheet(open_data(DataConfig(source="digits")), tmp_path / name)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder.png"]


def test_links_to_images_are_read_and_linked_annotations_are_not(tmp_path: Path):
    if os.name != "posix":
        pytest.skip("links need rights elsewhere")
    put(tmp_path / "store" / "a.png", 0)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "b.png").symlink_to(tmp_path / "store" / "a.png")
    assert stat.S_ISLNK((tmp_path / "set" / "b.png").lstat().st_mode)
    (tmp_path / "store" / "metadata.jsonl").write_text('{"file_name": "b.png", "label": 1}')
    (tmp_path / "set" / "metadata.jsonl").symlink_to(tmp_path / "store" / "metadata.jsonl")
    dataset = opened(tmp_path / "set", tmp_path)
    assert list(by_name(dataset)) == ["b.png"]
    assert dataset.classes == ()
    assert dataset.skipped == (("metadata.jsonl", "a link, not followed"),)


def test_a_damaged_zip_member_is_counted(tmp_path: Path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for k in range(2):
            archive.writestr(f"{k}.png", encoded(Image.fromarray(picture(k))))
        archive.writestr("metadata.jsonl", '{"file_name": "1.png", "label": 3}')
    raw = bytearray(stream.getvalue())
    raw[200] ^= 0xFF  # inside the first member's pixels: its checksum fails
    raw[raw.index(b'{"file_name"') + 3] ^= 0xFF
    (tmp_path / "set.zip").write_bytes(raw)
    dataset = opened(tmp_path / "set.zip", tmp_path)
    assert list(by_name(dataset)) == ["1.png"]
    assert "CRC" in dataset.skipped[0].reason
    assert any("metadata.jsonl cannot be read" in note for note in dataset.notes)


def test_the_verb_reports_a_hostile_folder_without_speaking_to_the_terminal(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "cache"))
    hostile(tmp_path / "set")
    (tmp_path / "set" / "\x1b[2J[bold].png").touch()
    app = typer.Typer()
    app.command()(data)
    sheet = tmp_path / "out" / "sheet.png"
    result = CliRunner().invoke(app, [str(tmp_path / "set"), "size=16", "background=black", "-o", str(sheet)])
    assert result.exit_code == 0, result.output
    assert r"\x1b[2J[bold].png: empty file" in result.output
    assert "\x1b" not in result.output
    assert "3x16x16" in result.output
    assert sheet.exists()
    wrong = CliRunner().invoke(app, ["digits", "sise=3"])
    assert isinstance(wrong.exception, RequestError)
    assert "did you mean 'size'" in str(wrong.exception)
