"""From a source to a pool of rows: decide size and channels, look in the cache, else decode and pack."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from reverie.core.errors import RequestError, ReverieError
from reverie.data.cache import cache_folder
from reverie.data.config import DataConfig
from reverie.data.decode import BrokenImageError, decode, quiet
from reverie.data.maps import line_map
from reverie.data.packed import VERSION, Block, binarize, read_pack, write_pack
from reverie.data.parallel import ordered
from reverie.data.pool import Pool, Skipped
from reverie.data.source import Described, Drawn, Files, Pixels, Points, Source, Stacked
from reverie.data.sources.stacked import stack
from reverie.data.split import digest, digests_of
from reverie.data.survey import Survey, take_survey
from reverie.data.transform import Transform, pick_size, transform_rows

CHUNK = 16  # images a task
Opened = tuple[Pool, DataConfig, tuple[str, ...]]
Progress = Callable[[int, int], None]


def open_pool(
    source: Source, config: DataConfig, cache: Path | None = None, progress: Progress | None = None
) -> Opened:
    """All rows of a source, the configuration with size and channels settled, and what was decided.

    Raises:
        RequestError: nothing in the source can be read.
    """
    if isinstance(source, Points):
        return source.pool, config, ()
    if isinstance(source, Stacked):
        digits, settled, notes = open_pool(source.digits, config.model_copy(update={"channels": 1}), cache, progress)
        return stack(digits, config.held_out), settled.model_copy(update={"channels": 3}), notes
    if isinstance(source, Drawn):
        return _open_drawn(source, config)
    if isinstance(source, Files):
        return _open_files(source, config, cache_folder(cache), progress)
    return _open_pixels(source, config, cache_folder(cache), progress)


def _open_pixels(source: Pixels, config: DataConfig, cache: Path, progress: Progress | None) -> Opened:
    channels, height, width = source.shape
    shortest = np.full(source.count, min(height, width))
    config, notes = _settle(config, shortest, height == width, channels == 1)
    transform = _transform(config)

    def blocks() -> tuple[Iterator[Block], Described]:
        return _pixel_blocks(source, transform, progress), source.described

    pool = _packed(source.kind, source.content, transform, cache, blocks)
    # A pack holds every domain; which one is trained on is the request's.
    pool = replace(pool, facts=replace(pool.facts, main=source.described.facts.main))
    return replace(pool, maps={name: line_map(pool, of) for name, of in source.lines.items()}), config, notes


def _open_drawn(source: Drawn, config: DataConfig) -> Opened:
    side = source.size if config.size == "auto" else config.size
    config, notes = _settle(config, np.full(1, side), True, False)
    transform = _transform(config)
    pool = source.pool(transform.size)
    plain = Transform(size=transform.size, channels=pool.shape[0])
    if transform.model_copy(update={"background": plain.background}) == plain:
        return pool, config, notes

    def read(index: np.ndarray) -> np.ndarray:
        rows = transform_rows(pool.read(index), transform)
        return binarize(rows, pool.digests[index]) if transform.binarize == "once" else rows

    key = digest(json.dumps([pool.key, transform.model_dump()], sort_keys=True).encode()).hex()
    return replace(pool, key=key, shape=(transform.channels, *pool.shape[1:]), read=read), config, notes


def _open_files(source: Files, config: DataConfig, cache: Path, progress: Progress | None) -> Opened:
    survey = take_survey(source, cache, progress)
    skipped = (*source.skipped, *survey.skipped)
    readable = survey.readable
    if not len(readable):
        raise RequestError(nothing_left(config.source, skipped, len(skipped)))
    shortest = np.minimum(readable["width"], readable["height"]).astype(np.int64)
    longest = np.maximum(readable["width"], readable["height"])
    same = bool((shortest == longest[0]).all() and (longest == longest[0]).all())
    config, notes = _settle(config, shortest, same, bool(readable["grey"].all()))
    transform = _transform(config)

    def blocks() -> tuple[Iterator[Block], Described]:
        return _file_blocks(source, survey, transform, progress), source.describe()

    pool = _packed(source.kind, survey.content, transform, cache, blocks)
    pool = replace(pool, skipped=(*skipped, *pool.skipped), broken=len(skipped) + pool.broken)
    if not len(pool):
        raise RequestError(nothing_left(config.source, pool.skipped, pool.broken))
    return pool, config, notes


def nothing_left(source: str, skipped: tuple[Skipped, ...], broken: int) -> str:
    """The message where a source has no row that can be used: the first causes, and how many there are."""
    first = "; ".join(map(str, skipped[:3]))
    return f"no image in {source} can be read: {first}" + (f" … ({broken:,} in all)" if broken > 3 else "")


def _settle(config: DataConfig, shortest: np.ndarray, same: bool, grey: bool) -> tuple[DataConfig, tuple[str, ...]]:
    """The configuration with size and channels decided, and notes that say so."""
    notes: tuple[str, ...] = ()
    if config.size == "auto":
        size, why = pick_size(shortest, same)
        config, notes = config.model_copy(update={"size": size}), (*notes, why)
    elif larger := int((shortest > config.size).sum()):
        notes = (*notes, f"{larger:,} of {len(shortest):,} images are larger than {config.size} and were made smaller")
    if config.channels == "auto":
        config = config.model_copy(update={"channels": 1 if grey else 3})
        notes = (*notes, "channels: 1, as every image is grey" if grey else "channels: 3")
    elif config.channels == 1 and not grey:
        notes = (*notes, "channels: 1, so colours are left out")
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


def _packed(
    kind: str,
    content: str,
    transform: Transform,
    cache: Path,
    blocks: Callable[[], tuple[Iterator[Block], Described]],
) -> Pool:
    """The pack of that content and transform, made where it is not there yet."""
    key = digest(json.dumps([VERSION, content, transform.model_dump()], sort_keys=True).encode()).hex()
    folder = cache / "packed" / key
    pool = read_pack(folder, key)
    if pool is None:
        rows, described = blocks()
        write_pack(folder, kind, transform, rows, described)
        pool = read_pack(folder, key)
    if pool is None:
        raise ReverieError(f"{folder} was written and cannot be read back; set REVERIE_CACHE to another disk")
    return pool


def _pixel_blocks(source: Pixels, transform: Transform, progress: Progress | None) -> Iterator[Block]:
    done = 0
    for rows in source.chunks():
        places = np.arange(done, done + len(rows))
        digests = digests_of(rows) if source.digests is None else source.digests[places]
        yield Block(transform_rows(rows, transform), digests, places)
        done += len(rows)
        if progress is not None:
            progress(done, source.count)


def _file_blocks(source: Files, survey: Survey, transform: Transform, progress: Progress | None) -> Iterator[Block]:
    readable = np.flatnonzero(survey.headers["ok"])

    def decode_some(start: int) -> Block:
        return _decode_block(source, survey, transform, readable[start : start + CHUNK])

    total, done = len(source.names), len(source.names) - len(readable)
    with quiet():
        for block in ordered(decode_some, range(0, len(readable), CHUNK)):
            yield block
            done += len(block.places) + len(block.skipped)
            if progress is not None:
                progress(total + done, 2 * total)  # the survey was the first half


def _decode_block(source: Files, survey: Survey, transform: Transform, places: np.ndarray) -> Block:
    rows = np.empty((len(places), transform.channels, transform.size, transform.size), dtype=np.uint8)
    good: list[int] = []
    skipped: list[Skipped] = []
    for place in places:
        try:
            rows[len(good)] = decode(source.read(int(place)), transform)
            good.append(int(place))
        except (BrokenImageError, OSError) as error:
            skipped.append(Skipped(source.names[place], str(error)))
    kept = np.array(good, dtype=np.int64)
    return Block(rows[: len(kept)], survey.headers["digest"][kept], kept, tuple(skipped))
