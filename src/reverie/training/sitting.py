"""One sitting of a training: from its start, or its resume, to its end, or its interruption."""

from __future__ import annotations

import time as clock
from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import load_file

from reverie.core.allocator import keep_freed_memory
from reverie.core.capabilities import Observes
from reverie.core.errors import RequestError
from reverie.core.player import Progress
from reverie.core.recipe import Recipe, save_recipe
from reverie.core.run import Run
from reverie.data.dataset import Dataset
from reverie.data.feed import Feed
from reverie.training.build import build, is_whole, load_parts, parts_of_other_data, resolve, save_model
from reverie.training.checkpoint import WeightsError, load_weights, resume, save
from reverie.training.checkup import checkup
from reverie.training.config import TrainConfig
from reverie.training.display import Display, memory_mib, pick_display
from reverie.training.doctor import diagnose
from reverie.training.grids import write_grid
from reverie.training.guards import Broken, Interrupted, Stop, stop_on_signals
from reverie.training.journal import Journal
from reverie.training.loop import Loop
from reverie.training.ranks import Ranks


class Sitting:
    """One sitting of a training: from its start or its resume to its end or its interruption."""

    def __init__(
        self,
        run: Run,
        config: TrainConfig,
        dataset: Dataset,
        device: torch.device,
        ranks: Ranks,
        quiet: bool,
    ) -> None:
        keep_freed_memory()
        self.run, self.config, self.dataset, self.ranks = run, config, dataset, ranks
        self.recipe, model_config = resolve(run.recipe, dataset.space)
        parts = load_parts(run.parts, self.recipe)
        model = build(self.recipe, model_config, dataset.space, parts, config.seed).to(device)
        feed = Feed(dataset, config.seed, model.draws())
        self.loop = Loop(model, feed, config, ranks)
        found = resume(run, self.loop)
        self.told: set[str] = set()
        self.spent, notes = found or (0.0, [])
        # Of today's budget, which may be larger than the one of the sitting before.
        self.loop.progress = self.loop.progress._replace(fraction=0.0)
        self._move_fraction()
        if found is None:
            self._start(feed)
        model.on_progress(self.loop.progress)
        begun = self.loop.progress.fraction
        self.display: Display = pick_display(quiet, ranks.first, self.recipe.name, begun)
        self.journal = Journal(run, self.loop.progress.round, config.tensorboard) if ranks.first else None
        notes = [*dataset.notes, *model.notes(), *parts_of_other_data(run.parts, self.recipe), *notes]
        for note in notes:
            self.display.say(note)
        if found and self.left:
            self.display.say(f"resuming {run.folder} at round {self.loop.progress.round:,} ({begun:.0%})")
        self._write("resume" if found else "start", source=dataset.config.source)

    @property
    def left(self) -> bool:
        """Whether there is anything left to train."""
        return self.loop.progress.fraction < 1.0

    def watch_as(self, recipe: Recipe) -> None:
        """Records how long, and how watched, the run goes on; not asked for where nothing is left to train."""
        if recipe.train != self.recipe.train:
            save_recipe(recipe, self.run.recipe_file)
            self.recipe = self.recipe.model_copy(update={"train": recipe.train})

    def _start(self, feed: Feed) -> None:
        """The beginning of a fresh run: another run's weights, and what the model wants to see of the data."""
        model = self.loop.model
        if "start" in self.recipe.parts:
            start = Run(self.run.parts / "start")
            try:
                load_weights(model, load_file(start.model_file))
            except WeightsError as error:
                name, there = self.recipe.model["name"], start.recipe.name
                raise RequestError(f"start is a {there}, from which this {name} cannot go on: {error}") from None
        if self.ranks.first:
            model.on_start(feed)
        self.ranks.broadcast([*model.parameters(), *model.buffers()])

    def go(self, stop: Callable[[Progress], bool] | None) -> None:
        """Plays rounds until the budget is spent, a signal comes, or ``stop`` says so.

        Raises:
            Interrupted: a signal came; a checkpoint was written.
            ReverieError: the training failed.
        """
        loop, left = self.loop, self.left
        try:
            with stop_on_signals() as signals:
                if not loop.seats and not loop.progress.round:
                    loop.progress = Progress(1, 0, 1.0)  # fitted by on_start: nothing to play
                    self._keep()
                elif self._play(signals, stop) or not is_whole(self.run.model_file):
                    self._keep()
                if signals.asked:
                    raise Interrupted(
                        f"stopped by {signals.asked} at round {loop.progress.round:,}; the same command resumes"
                    )
            if loop.progress.fraction >= 1.0:
                self._write("done", images=loop.progress.images, seconds=self.spent)
                seen = f"{loop.progress.images:,} images in {self.spent:.0f} s"
                had = f"has had this budget ({seen}): nothing is left to train, and recipe.yaml stays as it was"
                self.display.say(f"{self.run.folder}: {seen}" if left else f"{self.run.folder} {had}")
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
            try:
                seen = loop.play_round()
            except Broken as error:
                self._write("failed", player=error.player, term=error.term)
                raise
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
            self.display.doing("drawing samples")
            with self.loop.averaged():
                model = self.loop.model
                asks = self.dataset.asks(model.space, model.view(Observes))
                samples, labels = write_grid(model, file, self.config.grid_size, self.config.seed, asks)
                signs = checkup(model, self.dataset, samples, labels, self.config.seed)
            self._write("grid", file=file.name, images=self.loop.progress.images)
            self._write("checkup", values=signs, fraction=self.loop.progress.fraction)
            self.display.doing("")
            self._warn()
        self.ranks.barrier()

    def _warn(self) -> None:
        """Tells of faults that the doctor finds, each once."""
        for finding in diagnose(self.run):
            if finding.kind == "fault" and finding.name not in self.told:
                self.told.add(finding.name)
                self.display.say(str(finding))

    def _keep(self) -> None:
        save(self.run, self.loop, self.spent)
        if self.ranks.first:
            with self.loop.averaged():
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
