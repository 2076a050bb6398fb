"""From a source to a pool of rows: decide size and channels, look in the cache, else pack."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from reverie.data.cache import cache_folder
from reverie.data.config import DataConfig
from reverie.data.packed import VERSION, Block, Progress, read_pack, write_pack
from reverie.data.pool import Facts, Pool, Skipped
from reverie.data.source import Files, Pixels, Points, Source, Stacked
from reverie.data.split import digest, digests_of
from reverie.data.transform import Transform, pick_size, transform_rows

Opened = tuple[Pool, DataConfig, tuple[str, ...]]


def open_pool(source: Source, config: DataConfig, cache: Path | None, progress: Progress | None) -> Opened:
    """All rows of a source, the configuration with size and channels settled, and what was decided."""
    if isinstance(source, Points):
        return source.pool, config, ()
    if isinstance(source, Stacked):
        raise NotImplementedError
    if isinstance(source, Files):
        raise NotImplementedError
    return _open_pixels(source, config, cache_folder(cache), progress)


def _settle(config: DataConfig, shortest: np.ndarray, same: bool, grey: bool) -> tuple[DataConfig, tuple[str, ...]]:
    """The configuration with size and channels decided, and notes that say so."""
    notes: tuple[str, ...] = ()
    if config.size == "auto":
        size, why = pick_size(shortest, same)
        config, notes = config.model_copy(update={"size": size}), (*notes, why)
    if config.channels == "auto":
        config = config.model_copy(update={"channels": 1 if grey else 3})
        notes = (*notes, "channels: 1, as every image is grey" if grey else "channels: 3")
    assert config.size != "auto"
    smaller = int((shortest < config.size).sum())
    if smaller:
        notes = (*notes, f"{smaller:,} of {len(shortest):,} images are smaller than {config.size} and were enlarged")
    return config, notes


def _transform(config: DataConfig) -> Transform:
    assert config.size != "auto"
    assert config.channels != "auto"
    return Transform(
        size=config.size + (config.size // 8 if config.crop == "random" else 0),
        channels=config.channels,
        background=config.background,
        draft=config.jpeg_draft,
        binarize=config.binarize,
    )


def pack_key(content: str, transform: Transform) -> str:
    """The name of a pack: a hash of content and transform."""
    text = json.dumps([VERSION, content, transform.model_dump()], sort_keys=True)
    return digest(text.encode()).hex()


def _open_pixels(source: Pixels, config: DataConfig, cache: Path, progress: Progress | None) -> Opened:
    channels, height, width = source.shape
    shortest = np.full(source.count, min(height, width))
    config, notes = _settle(config, shortest, height == width, channels == 1)
    transform = _transform(config)
    key = pack_key(source.content, transform)
    folder = cache / "packed" / key
    pool = read_pack(folder, key)
    if pool is None:
        blocks = _pixel_blocks(source, transform, progress)
        write_pack(folder, source.kind, transform, blocks, source.facts, source.lines)
        pool = read_pack(folder, key)
    assert pool is not None
    return replace(pool, facts=_with_main(pool.facts, source.facts)), config, (*source.notes, *notes)


def _with_main(packed: Facts, source: Facts) -> Facts:
    """A pack holds every domain; which one is trained on is the request's."""
    return replace(packed, main=source.main)


def _pixel_blocks(source: Pixels, transform: Transform, progress: Progress | None) -> Iterator[Block]:
    done = 0
    for rows in source.chunks():
        places = np.arange(done, done + len(rows))
        digests = digests_of(rows) if source.digests is None else source.digests[places]
        yield Block(transform_rows(rows, transform), digests, places)
        done += len(rows)
        if progress is not None:
            progress(done, source.count)


__all__ = ["Opened", "Progress", "Skipped", "open_pool", "pack_key"]
