"""Optimisers by name, and the learning rate as a function of progress."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from reverie.core.player import OptimizerConfig, Player, Progress


def parameters(player: Player) -> list[nn.Parameter]:
    """A player's parameters, each once, in a fixed order."""
    unique = {id(p): p for module in player.modules for p in module.parameters()}
    return list(unique.values())


def optimizer(config: OptimizerConfig, weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Creates torch's optimiser of that name, fused where torch has a fused kernel (every device we use)."""
    weights = list(weights)
    # A tensor of no elements, or none at all, has nothing to fuse.
    adam = {"lr": config.lr, "betas": config.betas, "eps": config.eps, "weight_decay": config.weight_decay}
    if config.name == "adam":
        return torch.optim.Adam(weights, **adam, fused=True)  # type: ignore[arg-type]
    if config.name == "adamw":
        return torch.optim.AdamW(weights, **adam, fused=True)  # type: ignore[arg-type]
    if config.name == "sgd":
        return torch.optim.SGD(
            weights, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
        )
    return torch.optim.RMSprop(
        weights, lr=config.lr, momentum=config.momentum, eps=config.eps, weight_decay=config.weight_decay, foreach=True
    )


def state_names(config: OptimizerConfig) -> set[str]:
    """What that optimiser keeps for each weight once it has stepped; all but ``step`` are shaped as the weight is."""
    momentum = {"momentum_buffer"} if config.momentum else set()
    return {
        "adam": {"step", "exp_avg", "exp_avg_sq"},
        "adamw": {"step", "exp_avg", "exp_avg_sq"},
        "rmsprop": {"step", "square_avg", *momentum},
        "sgd": momentum,
    }[config.name]


def learning_rate(config: OptimizerConfig, progress: Progress) -> float:
    """The rate for the round that ``progress`` stands before: linear warm-up, then constant or cosine."""
    rate = config.lr
    if config.warmup:
        rate *= min(1.0, (progress.round + 1) / config.warmup)
    if config.schedule == "cosine":
        rate *= 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress.fraction)))
    return rate
