"""The one loop.

Each round, for each player: repeat ``turns`` times: loss, backward, reduce gradients, step, ``after_turn``.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reverie.core.batch import Batch
from reverie.core.device import Precision, autocast, seed_generators, settled
from reverie.core.errors import RequestError
from reverie.core.model import Model
from reverie.core.noise import KeyedNoise
from reverie.core.player import Loss, Player, Progress, Turn
from reverie.training.average import Average
from reverie.training.batch_norm import fresh_statistics
from reverie.training.config import TrainConfig
from reverie.training.guards import check_terms, gradient_norm
from reverie.training.optimizers import learning_rate, optimizer, parameters
from reverie.training.ranks import Ranks


class Feed(Protocol):
    """Where batches come from: rows ``first`` to ``first + count - 1`` of the stream of training images."""

    def batch(self, first: int, count: int) -> Batch: ...


@dataclass
class Seat:
    """A player with its parameters and its optimiser."""

    player: Player
    weights: list[nn.Parameter]
    optimizer: torch.optim.Optimizer

    def plays(self, progress: Progress) -> bool:
        """Whether it has a turn in the round that ``progress`` stands before."""
        start, end = self.player.window
        last = end >= 1.0
        return (
            progress.round % self.player.every == 0 and start <= progress.fraction and (last or progress.fraction < end)
        )


class Loop:
    """Creates the training of a model, at its start.

    Arguments:
        model: on its device.
        feed: where batches come from.
        config: the recipe's ``train`` section.
        ranks: the processes.
    """

    def __init__(self, model: Model, feed: Feed, config: TrainConfig, ranks: Ranks) -> None:
        self.model = model
        self.feed = feed
        self.config = config
        self.ranks = ranks
        self.device = next(iter(model.parameters()), torch.empty(0)).device
        self.channels_last = config.channels_last is not False and len(model.space.shape) == 3
        if self.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.seats = []
        for player in model.players():
            weights = parameters(player)
            self.seats.append(Seat(player, weights, optimizer(player.optimizer, weights)))
            if config.compile is True and player.compile:
                for module in player.modules:
                    module.compile()
        # Once for all processes, and for all sittings by the checkpoint: ``auto`` measures, and may find otherwise.
        fast = ranks.agree(float(settled(self.device, config.precision, model.space) == "bf16"))
        self.precision: Precision = "bf16" if fast else "fp32"
        self.images = config.batch * max((seat.player.turns for seat in self.seats), default=1)
        self.average = Average(model.averaged(), config.average.half_life, self.images)
        self.progress = Progress()
        self.micro = config.batch // (config.accumulate * ranks.world)
        if self.micro < 2 and any(isinstance(module, _BatchNorm) for module in model.modules()):
            raise RequestError(
                "batch norm compares the rows of a step, here one: raise train.batch, or leave the norm out"
            )

    def play_round(self) -> dict[str, Tensor]:
        """Plays one round and moves ``progress`` on, its fraction apart (the budget knows that).

        Returns:
            The terms and figures of every player's last turn, by ``player/name``.

        Raises:
            ReverieError: a loss or a gradient is not finite; weights are then as before the turn.
        """
        if not self.model.training:
            self.model.train()
        seen: dict[str, Tensor] = {}
        batches: dict[tuple[int, int], Batch] = {}
        playing = [seat for seat in self.seats if seat.plays(self.progress)]
        for seat in playing:
            for k in range(seat.player.turns):
                loss = self._take_turn(seat, k, batches)
                for name, value in {**loss.terms, **loss.figures}.items():
                    seen[f"{seat.player.name}/{name}"] = value
        self.average.update()
        self.progress = self.progress._replace(round=self.progress.round + 1, images=self.progress.images + self.images)
        self.model.on_progress(self.progress)
        return seen

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it, the model is the one that samples are drawn with: averaged weights and their statistics."""
        config = self.config
        if config.average.half_life == 0 or self.average.updates == 0:
            yield
            return

        def real(ids: Tensor) -> Batch:
            return self.feed.batch(int(ids[0]), len(ids))

        asks = (lambda ids: real(ids).condition) if self.model.space.drawn_from else None
        fresh = fresh_statistics(self.model, self.micro, config.seed, self.precision, asks, real)
        with self.average.in_place(), fresh:
            yield

    def _take_turn(self, seat: Seat, k: int, batches: dict[tuple[int, int], Batch]) -> Loss:
        player, config = seat.player, self.config
        for other in self.seats:
            for weight in other.weights:
                weight.requires_grad_(False)
        for weight in seat.weights:
            weight.requires_grad_(True)
        seat.optimizer.zero_grad(set_to_none=True)
        losses = []
        for m in range(config.accumulate):
            if (k, m) not in batches:
                batches[k, m] = self._batch(k, m)
            batch = batches[k, m]
            first = int(batch.ids[0])
            # Dropout draws from the global generator: a key in place of its state makes resume exact.
            seed_generators(self.device, zlib.crc32(f"{config.seed}/{player.name}/{first}".encode()))
            noise = KeyedNoise(config.seed, batch.ids, f"train/{player.name}")
            with autocast(self.device, self.precision, self.model.space):
                loss = player.loss(Turn(batch, noise, self.progress, k))
            check_terms(loss.terms, player.name, self.progress.round)
            total = torch.stack([term.float() for term in loss.terms.values()]).sum()
            (total / config.accumulate).backward()
            losses.append(loss)
        self.ranks.reduce_gradients(seat.weights)
        norm = gradient_norm(seat.weights, player.name, self.progress.round, list(losses[0].terms))
        self._step(seat, norm)
        loss = self._reduce(losses)
        if player.after_turn:
            with torch.no_grad():
                player.after_turn(loss)
        return Loss(loss.terms, {**loss.figures, "gradient": norm.detach()}, loss.sums)

    def _batch(self, k: int, m: int) -> Batch:
        """Micro-batch ``m`` of this process's share of batch ``k`` of the round."""
        share = self.ranks.rank * self.config.accumulate + m
        first = self.progress.images + k * self.config.batch + share * self.micro
        batch = self.feed.batch(first, self.micro)
        if self.device.type != "cpu":
            batch = batch.to(self.device)
        if self.channels_last and batch.x.ndim == 4:
            batch = replace(batch, x=batch.x.contiguous(memory_format=torch.channels_last))
        return batch

    def _step(self, seat: Seat, norm: Tensor) -> None:
        config = seat.player.optimizer
        if config.clip is not None:
            gradients = [p for p in seat.weights if p.grad is not None]
            torch.nn.utils.clip_grads_with_norm_(gradients, config.clip, norm)
        for group in seat.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.progress)
        seat.optimizer.step()

    def _reduce(self, losses: list[Loss]) -> Loss:
        """Means of terms and figures, sums of sums, over micro-batches and processes."""

        def means(of: str) -> dict[str, Tensor]:
            names = getattr(losses[0], of)
            stacked = {n: torch.stack([getattr(x, of)[n].detach().float() for x in losses]).mean(0) for n in names}
            return self.ranks.reduce(stacked, mean=True)

        sums = {n: torch.stack([x.sums[n].detach() for x in losses]).sum(0) for n in losses[0].sums}
        return Loss(means("terms"), means("figures"), self.ranks.reduce(sums, mean=False))
