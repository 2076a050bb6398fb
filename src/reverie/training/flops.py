"""How many floating-point operations a round of training takes, counted on a model made for it and thrown away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from reverie.core.recipe import read_recipe
from reverie.data.dataset import Dataset
from reverie.data.feed import Feed
from reverie.training.build import build, resolve
from reverie.training.config import TrainConfig
from reverie.training.loop import Loop
from reverie.training.ranks import Ranks


def flops_per_image(recipe: str, dataset: Dataset, changes: Iterable[str] | Mapping[str, Any] = ()) -> float:
    """Operations that training spends on one image seen, all players' passes in both directions included.

    Matrix products, convolutions and attention are counted, two for a multiplication and an addition; what is done
    value by value is not.

    Arguments:
        recipe: a name from ``reverie models``, or a YAML file's path.
        dataset: what it is trained on.
        changes: as for ``train``.
    """
    asked = read_recipe(recipe, changes)
    config = TrainConfig.read({**asked.train, "precision": "fp32"}, "train")
    resolved, model_config = resolve(asked, dataset.space)
    model = build(resolved, model_config, dataset.space, {}, config.seed)
    feed = Feed(dataset, config.seed, model.draws())
    loop = Loop(model, feed, config, Ranks(torch.device("cpu")))
    if not loop.seats:
        return 0.0
    model.on_start(feed)
    with FlopCounterMode(display=False) as counter:
        loop.play_round()
    return counter.get_total_flops() / loop.progress.images
