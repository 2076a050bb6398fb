"""The split, the cache and the stream of batches."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reverie.core.batch import Draw
from reverie.core.errors import RequestError, ReverieError
from reverie.core.images import from_bytes
from reverie.data import DataConfig, Feed, open_data
from reverie.data.cache import cache_folder, publish
from reverie.data.dataset import Dataset
from reverie.data.packed import Mapped, binarize
from reverie.data.split import digests_of, is_held_out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    for k in range(40):
        pixels = np.random.default_rng(k).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        (root / f"{k % 2}").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / f"{k % 2}" / f"{k:02d}.png")
    for file in root.rglob("*.png"):
        os.utime(file, (1e9, 1e9))  # old enough to be trusted by its time
    return root


def opened(folder: Path, **settings: object) -> Dataset:
    return open_data(DataConfig(source=str(folder), **settings), cache=folder.parent / "cache")


def names(dataset: Dataset, rows: str) -> set[str]:
    return {row["file_name"] for row in getattr(dataset, rows).table}


def test_the_split_is_a_threshold_on_the_digest():
    rows = np.arange(20_000, dtype=np.uint32).view(np.uint8).reshape(-1, 4)
    digests = digests_of(rows)
    share = is_held_out(digests, 0.1)
    # Binomial: 6 standard deviations.
    assert abs(share.mean() - 0.1) < 6 * np.sqrt(0.09 / 20_000)
    assert (share <= is_held_out(digests, 0.2)).all()  # a larger share holds out the same rows and more
    assert not is_held_out(digests, 0.0).any()
    by_hand = [int.from_bytes(row[:8].tobytes(), "big") / 2**64 < 0.1 for row in digests[:500]]
    assert share[:500].tolist() == by_hand


def test_no_row_changes_sides_when_others_come(folder: Path, tmp_path: Path):
    before = opened(folder, held_out=0.3)
    larger = tmp_path / "larger"
    for k, file in enumerate(sorted(folder.rglob("*.png"))):
        target = larger / f"renamed{k}" / file.name
        target.parent.mkdir(parents=True)
        target.write_bytes(file.read_bytes())
    for k in range(100, 120):
        Image.fromarray(np.full((12, 12, 3), k, dtype=np.uint8)).save(larger / "renamed0" / f"{k}.png")
    after = open_data(DataConfig(source=str(larger), held_out=0.3, size=8), cache=tmp_path / "cache")
    base = {Path(name).name for name in names(before, "held_out")}
    assert 0 < len(base) < 40
    assert base == {Path(name).name for name in names(after, "held_out")} - {f"{k}.png" for k in range(100, 120)}


def test_too_few_rows_are_all_trained_on(tmp_path: Path):
    # Under a share of 0.999 this one row is held out; then nothing would be left to train on.
    (tmp_path / "one").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "one" / "a.png")
    dataset = open_data(DataConfig(source=str(tmp_path / "one"), held_out=0.999), cache=tmp_path / "cache")
    assert (len(dataset.train), len(dataset.held_out)) == (1, 0)


def test_a_pack_is_shared_reused_and_made_again_when_damaged(folder: Path):
    calls: list[tuple[int, int]] = []
    cache = folder.parent / "fresh-cache"
    config = DataConfig(source=str(folder))
    first = open_data(config, cache, lambda done, total: calls.append((done, total)))
    assert calls[-1] == (80, 80)  # each image surveyed, then decoded
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    calls.clear()
    again = open_data(config, cache, lambda done, total: calls.append((done, total)))
    assert calls == []
    assert again.hash == first.hash
    (pack,) = (cache / "packed").iterdir()
    whole = (pack / "rows.bin").read_bytes()
    for lost in (1, 3 * 12 * 12):
        (pack / "rows.bin").write_bytes(whole[:-lost])
        open_data(config, cache)
        assert (pack / "rows.bin").read_bytes() == whole
    open_data(DataConfig(source=str(folder), size=8), cache)
    assert len(list((cache / "packed").iterdir())) == 2


def test_the_hash_follows_content(folder: Path, tmp_path: Path):
    base = opened(folder)
    assert opened(folder, flip=True).hash == base.hash  # an augmentation changes no row
    for change in ({"size": 8}, {"condition": "none"}, {"held_out": 0.5}, {"channels": 1}, {"crop": "random"}):
        assert opened(folder, **change).hash != base.hash
        assert (opened(folder, **change).rows_hash == base.rows_hash) == ("condition" in change), "of rows, not labels"
    copy = tmp_path / "copy"
    for file in folder.rglob("*.png"):
        (copy / file.parent.name).mkdir(parents=True, exist_ok=True)
        (copy / file.parent.name / file.name).write_bytes(file.read_bytes())
    config = DataConfig(source=str(copy))
    assert open_data(config, tmp_path / "cache").hash == base.hash


def test_a_file_that_changed_within_its_clock_is_read_again(tmp_path: Path):
    (tmp_path / "set").mkdir()
    file = tmp_path / "set" / "a.bmp"
    config = DataConfig(source=str(tmp_path / "set"))
    Image.new("RGB", (8, 8), "red").save(file)
    first, times = open_data(config, tmp_path / "cache"), file.stat()
    Image.new("RGB", (8, 8), "blue").save(file)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # the same name, size and time
    second = open_data(config, tmp_path / "cache")
    assert first.hash != second.hash
    assert second.train.pixels(np.array([0]))[0, :, 0, 0].tolist() == [0, 0, 255]


def test_a_folder_is_published_whole_or_not_at_all(tmp_path: Path):
    def interrupted() -> None:
        with publish(tmp_path / "a" / "pack") as unfinished:
            (unfinished / "half").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list((tmp_path / "a").iterdir()) == []
    with publish(tmp_path / "a" / "pack") as late:
        (late / "which").write_text("late")
        with publish(tmp_path / "a" / "pack") as early:
            (early / "which").write_text("early")
    assert (tmp_path / "a" / "pack" / "which").read_text() == "early"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["pack"]
    with pytest.raises(ReverieError, match=r"no space left .* REVERIE_CACHE"), publish(tmp_path / "b") as full:
        raise OSError(28, "No space left on device", str(full))


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x"
    assert cache_folder(tmp_path / "y") == tmp_path / "y"
    monkeypatch.delenv("REVERIE_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "z"))
    assert cache_folder() == tmp_path / "z" / "reverie"


def test_an_epoch_sees_every_row_once_and_the_next_in_another_order(folder: Path):
    dataset = opened(folder, held_out=0.0)
    feed = Feed(dataset, seed=5)
    epochs = feed.batch(0, 80).index.reshape(2, 40)
    assert epochs.sort(dim=1).values.tolist() == [list(range(40))] * 2
    assert epochs[0].tolist() != epochs[1].tolist()
    assert Feed(dataset, seed=6).batch(0, 40).index.tolist() != epochs[0].tolist()
    assert feed.first(0).index.tolist() == epochs[0].tolist()
    batch = feed.first(3)
    assert batch.ids.tolist() == [0, 1, 2]
    expected = from_bytes(torch.from_numpy(dataset.pool.read(batch.index.numpy())))
    assert torch.equal(batch.x, expected)
    assert batch.condition.label.tolist() == dataset.train.labels[batch.index.numpy()].tolist()


def test_a_batch_is_a_function_of_its_ids(folder: Path):
    dataset = opened(folder, crop="random", flip=True, turn=True)
    draws = {"other": Draw("1")}
    whole = Feed(dataset, 5, draws).batch(30, 20)
    feed = Feed(dataset, 5, draws)
    pieces = [feed.batch(first, count) for first, count in ((43, 7), (30, 13))][::-1]
    assert torch.equal(whole.x, torch.cat([piece.x for piece in pieces]))
    others = torch.cat([piece.parts["other"].x for piece in pieces])
    assert torch.equal(whole.parts["other"].x, others)
    assert whole.x.shape[-2:] == (12, 12)
    assert dataset.pool.shape[-2:] == (13, 13)  # packed an eighth larger


def test_augmentations_are_what_they_say(folder: Path):
    flipped = opened(folder, flip=True, held_out=0.0)
    batch = Feed(flipped, 0).batch(0, 4000)
    plain, _ = flipped.train.take(batch.index.numpy())
    same = (batch.x == plain).flatten(1).all(dim=1)
    mirrored = (batch.x == plain.flip(-1)).flatten(1).all(dim=1)
    assert (same ^ mirrored).all()
    assert abs(mirrored.float().mean() - 0.5) < 6 * 0.5 / 4000**0.5
    turned = opened(folder, turn=True, held_out=0.0)
    batch = Feed(turned, 0).batch(0, 400)
    plain, _ = turned.train.take(batch.index.numpy())
    which = torch.stack([(batch.x == plain.rot90(k, (2, 3))).flatten(1).all(dim=1) for k in range(4)])
    assert (which.sum(dim=0) == 1).all()
    assert (which.sum(dim=1) > 50).all()
    cropped = opened(folder, crop="random", held_out=0.0)
    batch = Feed(cropped, 0).batch(0, 100)
    packed = from_bytes(torch.from_numpy(cropped.train.packed(batch.index.numpy())))
    windows = torch.stack([packed[..., i : i + 12, j : j + 12] for i in range(2) for j in range(2)])
    assert ((windows == batch.x).flatten(2).all(dim=2).sum(dim=1) > 5).all()  # all four windows occur
    assert (windows == batch.x).flatten(2).all(dim=2).any(dim=0).all()  # and nothing else


def test_draws_run_over_their_own_rows(folder: Path):
    dataset = opened(folder, held_out=0.25)
    feed = Feed(dataset, 0, {"ones": Draw("1"), "labelled": Draw("labelled")})
    batch = feed.batch(0, 60)
    assert (batch.parts["ones"].condition.label == 1).all()
    assert sorted(set(batch.parts["ones"].index.tolist())) == np.flatnonzero(dataset.train.labels == 1).tolist()
    assert batch.parts["labelled"].index.tolist() != batch.index.tolist()  # an order of its own
    plain, _ = dataset.train.take(batch.parts["ones"].index.numpy())
    assert torch.equal(plain, batch.parts["ones"].x)


def test_a_draw_that_the_data_cannot_give_is_refused(folder: Path):
    dataset = opened(folder)
    with pytest.raises(RequestError, match="did you mean 'labelled'"):
        Feed(dataset, 0, {"some": Draw("labeled")})
    with pytest.raises(RequestError, match="no factors"):
        Feed(dataset, 0, {"some": Draw(vary=("pose",))})


def test_binarised_once_by_intensity_and_for_ever():
    rows = np.full((1, 1, 100, 100), 64, dtype=np.uint8)
    rows[:, :, :50] = 255
    rows[:, :, :1] = 0
    digests = digests_of(rows)
    drawn = binarize(rows, digests)
    assert set(np.unique(drawn)) == {0, 255}
    assert (drawn[:, :, 1:50] == 255).all()
    assert (drawn[:, :, :1] == 0).all()
    p = 64 / 255
    assert abs((drawn[:, :, 50:] > 0).mean() - p) < 6 * np.sqrt(p * (1 - p) / 5000)
    both = binarize(np.concatenate([rows, rows]), np.concatenate([digests_of(rows[:, :, ::2]), digests]))
    np.testing.assert_array_equal(both[1:], drawn)  # by content, not by place
    assert (both[0] != both[1]).any()


def test_binarised_data_have_two_values(folder: Path):
    dataset = opened(folder, channels=1, binarize="once")
    assert dataset.space.depth == 2
    assert Feed(dataset, 0).batch(0, 4).x.unique().tolist() == [-1.0, 1.0]


def test_mapped_rows_survive_giving_back_their_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("reverie.data.packed.RELEASE", 2**20)
    rows = np.random.default_rng(0).integers(0, 256, (600, 3, 64, 64), dtype=np.uint8)
    rows.tofile(tmp_path / "rows.bin")
    mapped = Mapped(tmp_path / "rows.bin", (3, 64, 64))
    index = np.random.default_rng(1).permutation(600)
    for _ in range(3):
        np.testing.assert_array_equal(mapped(index), rows[index])
