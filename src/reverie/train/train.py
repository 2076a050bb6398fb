"""``train``: a recipe and a source of data in, a run folder out; the same call again resumes."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from reverie.core.device import pick_device
from reverie.core.errors import RequestError
from reverie.core.player import Progress
from reverie.core.recipe import Recipe, parse_change, read_recipe, save_recipe
from reverie.core.run import Run
from reverie.data.dataset import DataConfig, Dataset, open_data
from reverie.data.feed import Feed
from reverie.train.build import build, check_parts, copy_parts, load_parts, resolve, save_model
from reverie.train.checkpoint import load_weights, resume, save
from reverie.train.config import WATCHING, TrainConfig
from reverie.train.display import Display, memory_mib, pick_display
from reverie.train.grids import write_grid
from reverie.train.guards import Interrupted, Stop, stop_on_signals
from reverie.train.journal import Journal
from reverie.train.loop import Loop
from reverie.train.ranks import Ranks


def train(
    recipe: str,
    data: str | None = None,
    *,
    out: str | Path | None = None,
    time: str | float | None = None,
    steps: int | None = None,
    images: int | None = None,
    changes: Iterable[str] | Mapping[str, Any] = (),
    device: str = "auto",
    quiet: bool = False,
    stop: Callable[[Progress], bool] | None = None,
) -> Run:
    """Trains a model, or goes on training it.

    Arguments:
        recipe: a name from ``reverie models``, or a YAML file's path.
        data: a source; the recipe's where None.
        out: the run folder; ``runs/<recipe>-<source>`` where None.
        time: budget, in seconds or as ``"10m"``: time spent in rounds, over all resumes.
        steps: budget in rounds.
        images: budget in images seen.
        changes: ``"key.path=value"`` strings, or a mapping.
        device: ``auto``, ``cpu``, ``cuda`` …
        quiet: say nothing.
        stop: asked after each round; True writes a checkpoint and returns.

    Returns:
        The run.

    Raises:
        RequestError: the request is wrong, or the folder holds another run.
        Interrupted: Ctrl-C or SIGTERM; a checkpoint was written.
        ReverieError: the training failed; the last good checkpoint is kept.
    """
    asked = _ask(recipe, data, time, steps, images, changes)
    place = pick_device(device)
    ranks = Ranks(place)
    config = TrainConfig.read(asked.train, "train")
    if config.batch % (config.accumulate * ranks.world):
        raise RequestError(
            f"train.batch={config.batch} does not divide into {ranks.world} processes x {config.accumulate} micro-batches"
        )
    dataset = open_data(DataConfig.read(asked.data, "data"))
    resolved, _ = resolve(asked, dataset.space)
    resolved = resolved.model_copy(
        update={
            "train": config.model_dump(mode="json"),
            "data": dataset.config.model_dump(mode="json"),
            "data_hash": dataset.hash,
        }
    )
    run = Run(out or Path("runs") / f"{resolved.name}-{Path(dataset.config.source).stem.replace(':', '-')}")
    try:
        if not ranks.first:
            ranks.barrier()
            _Sitting(run, run.recipe, config, dataset, place, ranks, quiet).go(stop)
            return run
        with run.lock():
            run.clear_temporary()
            recipe_now = _settle(run, resolved)
            ranks.barrier()
            _Sitting(run, recipe_now, config, dataset, place, ranks, quiet).go(stop)
    finally:
        ranks.close()
    return run


def _ask(
    recipe: str,
    data: str | None,
    time: str | float | None,
    steps: int | None,
    images: int | None,
    changes: Iterable[str] | Mapping[str, Any],
) -> Recipe:
    pairs = dict(changes) if isinstance(changes, Mapping) else dict(map(parse_change, changes))
    if data is not None:
        pairs["data.source"] = data
    budget = {"time": time, "steps": steps, "images": images}
    named = {k: v for k, v in budget.items() if v is not None} or {
        k: pairs[f"train.{k}"] for k in budget if pairs.get(f"train.{k}") is not None
    }
    if len(named) > 1:
        raise RequestError(f"give one budget, not {' and '.join(named)}")
    if named:
        pairs |= {f"train.{k}": named.get(k) for k in budget}
    return read_recipe(recipe, pairs)


def _settle(run: Run, resolved: Recipe) -> Recipe:
    """Writes a fresh run's recipe, or holds the one that is there against the one asked for.

    Raises:
        RequestError: they differ in what is trained.
    """
    if not run.recipe_file.is_file():
        resolved = copy_parts(resolved, run)
        save_recipe(resolved, run.recipe_file)
        return resolved
    there = run.recipe
    old, new = _identity(there), _identity(resolved)
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            raise RequestError(
                f"{run.folder} holds another run: {key} is {old.get(key)!r} there, {new.get(key)!r} here; "
                "give another --out, or the same recipe and data to resume"
            )
    check_parts(run.parts, there)
    watching = {**there.train, **{k: resolved.train[k] for k in WATCHING}}
    there = there.model_copy(update={"train": watching})
    save_recipe(there, run.recipe_file)
    return there


def _identity(recipe: Recipe) -> dict[str, Any]:
    """A recipe's leaves by path, without what only changes how long and how it is watched."""
    body = recipe.model_dump(mode="json", include={"model", "train", "data_hash", "start", "teacher", "autoencoder"})
    body["data"] = {k: v for k, v in recipe.data.items() if k != "source"}  # moved data are the same data
    leaves: dict[str, Any] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, below in value.items():
                walk(below, f"{path}.{key}" if path else key)
        elif path.split(".")[-1] not in WATCHING or not path.startswith("train."):
            leaves[path] = list(value) if isinstance(value, tuple) else value

    walk(body, "")
    return {k: v for k, v in leaves.items() if not k.startswith("model.sampling")}


class _Sitting:
    """One sitting of a training: from its start or its resume to its end or its interruption."""

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        config: TrainConfig,
        dataset: Dataset,
        device: torch.device,
        ranks: Ranks,
        quiet: bool,
    ) -> None:
        self.run, self.recipe, self.config, self.dataset, self.ranks = run, recipe, config, dataset, ranks
        parts = load_parts(run.parts, recipe)
        self.recipe, model_config = resolve(recipe, dataset.space)
        model = build(self.recipe, model_config, dataset.space, parts, config.seed).to(device)
        feed = Feed(dataset, config.seed, model.draws())
        self.loop = Loop(model, feed, config, ranks)
        found = resume(run, self.loop)
        self.spent, notes = found or (0.0, [])
        self._move_fraction()
        if found is None:
            self._start(feed)
        model.on_progress(self.loop.progress)
        begun = self.loop.progress.fraction
        self.display: Display = pick_display(quiet, ranks.first, recipe.name, begun)
        self.journal = Journal(run, self.loop.progress.round, config.tensorboard) if ranks.first else None
        for note in [*dataset.notes, *notes]:
            self.display.say(note)
        if found:
            self.display.say(f"resuming {run.folder} at round {self.loop.progress.round:,} ({begun:.0%})")
        self._write("resume" if found else "start", source=dataset.config.source)

    def _start(self, feed: Feed) -> None:
        """The beginning of a fresh run: another run's weights, and what the model wants to see of the data."""
        model = self.loop.model
        if "start" in self.recipe.parts:
            from safetensors.torch import load_file

            load_weights(model, load_file(Run(self.run.parts / "start").model_file))
        if self.ranks.first:
            model.on_start(feed)
        self.ranks.broadcast([*model.parameters(), *model.buffers()])

    def go(self, stop: Callable[[Progress], bool] | None) -> None:
        """Plays rounds until the budget is spent, a signal comes, or ``stop`` says so.

        Raises:
            Interrupted: a signal came; a checkpoint was written.
            ReverieError: the training failed.
        """
        loop = self.loop
        try:
            with stop_on_signals() as signals:
                if not loop.seats and not loop.progress.round:
                    loop.progress = Progress(1, 0, 1.0)  # fitted by on_start: nothing to play
                    self._keep()
                elif self._play(signals, stop) or not self.run.model_file.is_file():
                    self._keep()
                if signals.asked:
                    raise Interrupted(
                        f"stopped by {signals.asked} at round {loop.progress.round:,}; the same command resumes"
                    )
            if loop.progress.fraction >= 1.0:
                self._write("done", images=loop.progress.images, seconds=self.spent)
                self.display.say(f"{self.run.folder}: {loop.progress.images:,} images in {self.spent:.0f} s")
        finally:
            self.display.close()
            if self.journal:
                self.journal.close()

    def _play(self, signals: Stop, stop: Callable[[Progress], bool] | None) -> bool:
        """Plays; True where anything was played since the last checkpoint."""
        loop, config = self.loop, self.config
        unsaved, window = False, _Window()
        last_kept = clock.monotonic()
        while loop.progress.fraction < 1.0:
            if self.ranks.any(signals.asked is not None):
                break
            grid = int(loop.progress.fraction * config.grids)
            begun = clock.perf_counter()
            seen = loop.play_round()
            elapsed = clock.perf_counter() - begun
            self.spent += elapsed
            self._move_fraction()
            unsaved = True
            window.add(seen, elapsed)
            if loop.progress.round % config.log_every == 0 or loop.progress.round == 1:
                self._log(window)
                window = _Window()
            if int(loop.progress.fraction * config.grids) > grid:
                self._grid()
            if self.ranks.agree(clock.monotonic() - last_kept) > config.checkpoint_every and loop.progress.fraction < 1:
                self._keep()
                unsaved, last_kept = False, clock.monotonic()
            if stop is not None and stop(loop.progress):
                break
        return unsaved

    def _move_fraction(self) -> None:
        config, progress = self.config, self.loop.progress
        if config.steps is not None:
            fraction = progress.round / config.steps
        elif config.images is not None:
            fraction = progress.images / config.images
        else:
            assert config.time is not None
            fraction = self.ranks.agree(self.spent) / config.time
        self.loop.progress = progress._replace(fraction=min(1.0, max(progress.fraction, fraction)))

    def _log(self, window: _Window) -> None:
        progress = self.loop.progress
        values, rate = window.means(), window.rounds * self._rows() / max(window.seconds, 1e-9)
        self.display.show(progress.fraction, progress.images, rate, self._rows(), values)
        self._write(
            "log",
            images=progress.images,
            fraction=progress.fraction,
            seconds=self.spent,
            images_per_second=rate,
            memory_mib=memory_mib(),
            values=values,
        )

    def _rows(self) -> int:
        return self.config.batch * max((seat.player.turns for seat in self.loop.seats), default=1)

    def _grid(self) -> None:
        if self.ranks.first and self.config.grids:
            file = self.run.samples / f"{self.loop.progress.images:010d}.png"
            with self.loop.average.in_place():
                write_grid(self.loop.model, file, self.config.grid_size, self.config.seed)
            self._write("grid", file=file.name, images=self.loop.progress.images)
        self.ranks.barrier()

    def _keep(self) -> None:
        save(self.run, self.loop, self.spent)
        if self.ranks.first:
            with self.loop.average.in_place():
                save_model(self.loop.model, self.recipe, self.dataset.classes, self.run)
        self._write("checkpoint", seconds=self.spent)

    def _write(self, event: str, **fields: Any) -> None:
        if self.journal:
            self.journal.write(event, self.loop.progress.round, **fields)


class _Window:
    """Sums since the last line of the journal."""

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.counts: dict[str, int] = {}
        self.rounds, self.seconds = 0, 0.0

    def add(self, seen: dict[str, torch.Tensor], seconds: float) -> None:
        self.rounds += 1
        self.seconds += seconds
        for name, value in seen.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        return {name: float(value) / self.counts[name] for name, value in self.sums.items()}
