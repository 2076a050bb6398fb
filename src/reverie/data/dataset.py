"""A data set as training sees it: rows to train on, rows held out, and what one row is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reverie.core.batch import Asks, Condition
from reverie.core.capabilities import Observes
from reverie.core.errors import RequestError, nearest
from reverie.core.noise import KeyedNoise
from reverie.core.space import Space
from reverie.core.terminal import shown
from reverie.data.config import DataConfig
from reverie.data.maps import COMPUTED, map_channels
from reverie.data.pack import Progress, open_pool
from reverie.data.pool import Facts, Pool, Skipped
from reverie.data.sources import find_source
from reverie.data.split import digest, is_held_out
from reverie.data.tags import read_tags

FEW = 100  # training rows, below which a user is told that they are few


class Rows:
    """Some rows of a data set, in a fixed order.

    Arguments:
        pool: all rows.
        places: int64 ``[N]``, which of them.
        size: the height and width that rows have when read; packed ones may be larger. None for points.
        conditional: whether ``take`` gives labels.
        maps: which maps it gives, ``none`` or a name that ``map_channels`` knows.
        tags: of all rows of the pool, uint8 ``[N, T]``: ``take`` gives them, conditioned on the pictures. None where
            it gives the pictures themselves.
    """

    def __init__(
        self,
        pool: Pool,
        places: np.ndarray,
        size: int | None,
        conditional: bool,
        maps: str = "none",
        tags: np.ndarray | None = None,
    ) -> None:
        self.pool, self.places, self.size, self.tags = pool, places, size, tags
        self.labels: np.ndarray | None = None if pool.facts.labels is None else pool.facts.labels[places]
        self._conditional = conditional
        self._map, self._computed = pool.maps.get(maps), COMPUTED.get(maps)
        self._label_tensor = None if self.labels is None else torch.from_numpy(self.labels)

    def __len__(self) -> int:
        return len(self.places)

    @property
    def table(self) -> Sequence[dict[str, Any]] | None:
        """Captions and attributes, one dict a row; None where the source has none."""
        return None if self.pool.facts.table is None else Picked(self.pool.facts.table, self.places)

    def packed(self, index: np.ndarray) -> np.ndarray:
        """Rows as they lie in the pool: images as bytes, before any crop."""
        return self.pool.read(self.places[index])

    def pixels(self, index: np.ndarray) -> np.ndarray:
        """Images as bytes ``[B, C, H, W]``, the middle window; points and tags as floats ``[B, D]``."""
        return self._middle(self.packed(index)) if self.tags is None else self._tagged(index)

    def _tagged(self, index: np.ndarray) -> np.ndarray:
        assert self.tags is not None
        return self.tags[self.places[index]].astype(np.float32)

    def _middle(self, rows: np.ndarray) -> np.ndarray:
        if self.size is None:
            return rows
        margin = (rows.shape[-1] - self.size) // 2
        return rows[..., margin : margin + self.size, margin : margin + self.size]

    def planes(self, index: np.ndarray) -> np.ndarray:
        """Rows as they lie in the pool and, behind their channels, those of their maps: what is cropped and flipped."""
        rows = self.packed(index)
        return rows if self._map is None else np.concatenate([rows, self._map.read(self.places[index])], axis=1)

    def seen(self, planes: np.ndarray, index: np.ndarray) -> tuple[Tensor, Condition]:
        """Planes of these rows, after any crop and flip, as models see them."""
        x, image = as_floats(planes), None
        if self.tags is not None:
            return torch.from_numpy(self._tagged(index)), Condition(image=x)
        if self._map is not None:
            x, image = (part.contiguous() for part in x.tensor_split([self.pool.shape[0]], dim=1))
        elif self._computed is not None:
            image = self._computed(x)
        label = None
        if self._conditional and self._label_tensor is not None:
            label = self._label_tensor[torch.from_numpy(index)]
        return x, Condition(label=label, image=image)

    def take(self, index: np.ndarray) -> tuple[Tensor, Condition]:
        """Rows ``[B, *space.shape]`` as models see them, and their conditions.

        Arguments:
            index: places among these rows, int64 ``[B]``.
        """
        return self.seen(self._middle(self.planes(index)), index)


class Picked(Sequence[dict[str, Any]]):
    """Some rows of a table."""

    def __init__(self, table: Sequence[dict[str, Any]], places: np.ndarray) -> None:
        self._table, self._places = table, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self._table[int(i)] for i in self._places[place]]
        return self._table[int(self._places[place])]


def as_floats(rows: np.ndarray) -> Tensor:
    """Bytes to [-1, 1], exactly as ``core.images.from_bytes`` has it; points as they are."""
    if rows.dtype != np.uint8:
        return torch.from_numpy(np.ascontiguousarray(rows))
    # In numpy, on this thread alone: torch would wake its threads for half a millisecond of work, and where other
    # programs hold the processors their barrier was measured at 10 to 30 ms a batch.
    x = np.divide(rows, np.float32(127.5), dtype=np.float32, order="C")
    x -= np.float32(1.0)
    return torch.from_numpy(x)


@dataclass(frozen=True)
class Dataset:
    """A source, opened.

    Arguments:
        space: what one row is.
        config: the configuration with nothing left ``auto``.
        hash: of content and everything that was done to it; equal hashes mean equal rows, conditioned alike.
        rows_hash: of the rows alone: what figures of samples are held against, whatever a model is conditioned on.
        classes: names of the labels. They stand here, and in ``Rows.labels``, even when training is unconditional
            (``space.classes`` is then 0): evaluation counts with them.
        notes: what was decided and what was left out, one line each.
        train: rows to train on.
        held_out: rows that training never sees; empty where the data were too few.
        pool: all rows, those of other domains included.
    """

    space: Space
    config: DataConfig
    hash: str
    rows_hash: str
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    train: Rows
    held_out: Rows
    pool: Pool
    training_side: np.ndarray

    @property
    def table(self) -> Sequence[dict[str, Any]] | None:
        """Captions and attributes of all rows, by place in ``pool``; None where the source has none."""
        return self.pool.facts.table

    @property
    def domains(self) -> tuple[str, ...]:
        """The names that a draw may ask for beside ``labelled`` and the classes."""
        return self.pool.facts.domain_names

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What in the source gave no row, the first ones."""
        return self.pool.skipped

    def rows(self, where: str | None) -> Rows:
        """The training rows that a draw asks for.

        Arguments:
            where: None for ``train``; ``"labelled"``, a domain, or a class.

        Raises:
            RequestError: the data have no such rows.
        """
        if where is None:
            return self.train
        facts = self.pool.facts
        if where in facts.domain_names and facts.domains is not None:
            places = np.flatnonzero(self.training_side & (facts.domains == facts.domain_names.index(where)))
        elif where == "labelled":
            labels = self.train.labels
            places = self.train.places[labels >= 0] if labels is not None else self.train.places[:0]
        elif where in facts.classes and self.train.labels is not None:
            places = self.train.places[self.train.labels == facts.classes.index(where)]
        else:
            known = ["labelled", *facts.domain_names, *facts.classes]
            raise RequestError(f"{self.config.source} has no rows '{where}'{nearest(where, known)}")
        if not len(places):
            raise RequestError(f"{self.config.source} has no training rows '{where}'")
        return Rows(self.pool, places, self.train.size, self.space.classes > 0, self.config.maps, self.train.tags)

    def asks(self, space: Space, observes: Observes | None = None) -> Asks | None:
        """What samples with these ids are drawn for, where that cannot be made up: maps or pictures of held-out rows.

        Arguments:
            space: of the model that is sampled.
            observes: the model as one that makes its maps from rows itself, if it does.

        Returns:
            ids ``[B]`` to the conditions of held-out rows (training rows where none is held out), in an order of no
            meaning and over again; None where the model draws from neither.

        Raises:
            RequestError: the model draws from other maps, or from pictures of another size, than these data have.
        """
        if not space.drawn_from:
            return None
        if space.picture or observes is not None:
            wanted, rows_are = space.picture or space.shape, self.space.picture or self.space.shape
            if rows_are != wanted:
                said, have = ("x".join(map(str, shape)) for shape in (wanted, rows_are))
                raise RequestError(f"the model draws from rows of {said}; those of {self.config.source} are {have}")
        elif self.space.maps != space.maps or self.space.shape[1:] != space.shape[1:]:
            have = f"maps of {self.space.maps} channels" if self.space.maps else "no maps"
            raise RequestError(
                f"the model draws from maps of {space.maps} channels at {space.shape[1]}x{space.shape[2]}; "
                f"{self.config.source} has {have} at {self.space.shape[1]}x{self.space.shape[2]} (data.maps)"
            )
        rows = self.held_out if len(self.held_out) else self.train
        order = np.random.Generator(np.random.Philox(0)).permutation(len(rows))

        def asked(ids: Tensor) -> Condition:
            x, condition = rows.take(order[ids.cpu().numpy() % len(rows)])
            if space.picture:
                return Condition(image=condition.image if self.space.picture else x)
            if observes is not None:
                condition = replace(condition, image=observes.observe(x, KeyedNoise(0, ids.cpu(), "observe")))
            return condition if space.classes else replace(condition, label=None)

        return asked


def open_data(config: DataConfig, cache: Path | None = None, progress: Progress | None = None) -> Dataset:
    """Opens a source: finds it, packs it where that was not done before, splits it.

    Arguments:
        config: the source and what is done to it.
        cache: where packs are kept; see ``reverie.data.cache`` for the default.
        progress: called with (done, total) while images are read and decoded.

    Raises:
        RequestError: there is no such source, nothing in it can be read, or it has no labels where they are asked for.
    """
    pool, resolved, notes = open_pool(find_source(config.source), config, cache, progress)
    facts = pool.facts
    conditional, resolved = _decide_condition(pool, resolved)
    held, split_note = _sides(pool, resolved)
    main = np.ones(len(pool), dtype=bool)
    if facts.main and facts.domains is not None:
        main = facts.domains == facts.domain_names.index(facts.main)
    size = resolved.size if len(pool.shape) == 3 and resolved.size != "auto" else None
    sides = tuple(np.flatnonzero(main & side) for side in (~held, held))
    tags, resolved, tag_notes = _decide_tags(pool, resolved, sides[0])
    train, held_out = (Rows(pool, places, size, conditional, resolved.maps, tags) for places in sides)
    shape = pool.shape if size is None else (pool.shape[0], size, size)
    space = Space(
        shape=shape if tags is None else tags.shape[1:],
        depth=None if size is None or tags is not None else 2 if resolved.binarize == "once" else 256,
        classes=len(facts.classes) if conditional else 0,
        count=len(train),
        maps=map_channels(resolved.maps, pool, resolved.source),
        picture=() if tags is None else shape,
        within=None if size is not None or tags is not None else _ends(train.pixels(np.arange(len(train)))),
    )
    key = f"{pool.key}/{facts.main}/{resolved.size}/{resolved.condition}/{resolved.held_out}"
    key += f"/{resolved.maps}" if space.maps else "" if tags is None else f"/{resolved.tags}"
    rows_key = f"{pool.key}/{facts.main}/{resolved.size}/{resolved.held_out}" if tags is None else key
    label_note = f"condition: {resolved.condition}" + (f" ({len(facts.classes)} classes)" if conditional else "")
    label_note += "" if tags is None else f", tags: {_listed(resolved.tags)}"
    map_note = (f"maps: {resolved.maps}, {space.maps} channel{'s' * (space.maps > 1)}",) * bool(space.maps)
    about = (label_note, *tag_notes, *map_note, *_domain_note(facts, main), *_of_images_note(config, pool))
    rows_note = f"{len(train):,} rows to train on, {len(held_out):,} held out ({split_note})"
    return Dataset(
        space=space,
        config=resolved,
        hash=digest(key.encode()).hex(),
        rows_hash=digest(rows_key.encode()).hex(),
        classes=facts.classes,
        notes=(*_default_note(config), *notes, *pool.notes, *about, rows_note, *_few_note(train), *_skipped_note(pool)),
        train=train,
        held_out=held_out,
        pool=pool,
        training_side=~held,
    )


def _decide_condition(pool: Pool, config: DataConfig) -> tuple[bool, DataConfig]:
    """Whether rows are conditioned on labels, and the configuration that says so."""
    facts = pool.facts
    if config.condition == "label" and not facts.classes:
        raise RequestError(
            f"{config.source} has no labels: a subfolder a class gives them, two or more; or use data.condition=none "
            "with a model that can do without"
        )
    if config.condition == "label" and len(facts.classes) == 1:
        raise RequestError(f"all of {config.source} is of one class, {facts.classes[0]}: use data.condition=none")
    if config.condition == "picture":
        return False, config
    wanted = {"label": True, "none": False, "auto": len(facts.classes) > 1 and not facts.modes}[config.condition]
    return wanted, config.model_copy(update={"condition": "label" if wanted else "none"})


def _default_note(config: DataConfig) -> tuple[str, ...]:
    if "source" in config.model_fields_set:
        return ()
    return (f"no --data is given: these are the {config.source} that are built in",)


def _domain_note(facts: Facts, main: np.ndarray) -> tuple[str, ...]:
    if main.all():
        return ()
    others = ", ".join(name for name in facts.domain_names if name != facts.main)
    return (f"domain: {facts.main}; {int((~main).sum()):,} rows of others are left out ({others})",)


OF_IMAGES = ("size", "crop", "flip", "turn", "background", "channels", "binarize", "jpeg_draft")
"""Settings that say nothing of points."""


def _of_images_note(config: DataConfig, pool: Pool) -> tuple[str, ...]:
    defaults = DataConfig()
    given = [name for name in OF_IMAGES if getattr(config, name) != getattr(defaults, name)]
    if len(pool.shape) == 3 or not given:
        return ()
    return (
        f"these rows are points: {', '.join(given)} {'is' if len(given) == 1 else 'are'} of images, and not looked at",
    )


def _decide_tags(
    pool: Pool, config: DataConfig, train: np.ndarray
) -> tuple[np.ndarray | None, DataConfig, tuple[str, ...]]:
    """All rows' tags where rows are tags, the configuration that names them, and notes."""
    if config.condition != "picture":
        return None, config, ()
    if config.maps != "none":
        raise RequestError("with data.condition=picture rows are conditioned on their pictures; leave data.maps out")
    names, tags, notes = read_tags(pool, train, config.tags, config.source)
    return tags, config.model_copy(update={"tags": names}), notes


def _ends(points: np.ndarray) -> tuple[float, float] | None:
    return (float(points.min()), float(points.max())) if points.size else None


def _listed(names: Sequence[str] | int) -> str:
    """The first names, and how many there are."""
    assert not isinstance(names, int)
    return f"{shown(', '.join(names[:5]))}{' …' if len(names) > 5 else ''} ({len(names)})"


def _sides(pool: Pool, config: DataConfig) -> tuple[np.ndarray, str]:
    """Which rows are held out, and how that was decided."""
    if pool.facts.held_out is not None:
        return pool.facts.held_out, "the source's own choice"
    held = is_held_out(pool.digests, config.held_out)
    if held.all():
        return np.zeros_like(held), "none: there are too few rows"
    return held, "by content"


def _few_note(train: Rows) -> tuple[str, ...]:
    if len(train) >= FEW:
        return ()
    return (f"{len(train)} rows are few: expect a model to repeat them; a GAN is helped by model.augment={{}}",)


def _skipped_note(pool: Pool) -> tuple[str, ...]:
    if not pool.broken:
        return ()
    first = "; ".join(map(str, pool.skipped[:3]))
    return (f"{pool.broken:,} could not be used ({first}{' …' if pool.broken > 3 else ''})",)
