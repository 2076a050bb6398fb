"""How many floating-point operations a round of training takes, counted on a model made for it and thrown away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from reverie.core.recipe import read_recipe
from reverie.data.dataset import Dataset
from reverie.data.feed import Feed
from reverie.training.build import build, load_parts, resolve
from reverie.training.config import TrainConfig
from reverie.training.loop import Loop
from reverie.training.ranks import Ranks


class Operations(TorchDispatchMode):
    """Creates a count of floating-point operations; ``total`` is of all that ran while it was on.

    By torch's own table of operators. Its FlopCounterMode also tells modules apart, by hooks that a gradient taken
    inside a loss (a gradient penalty) runs into.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        count = flop_registry.get(func._overloadpacket)
        if count is None:
            with self:
                out = func.decompose(*args, **kwargs)  # an operator may be made of some that are in the table
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        if count is not None:
            self.total += count(*args, **kwargs, out_val=out)
        return out


def flops_per_image(recipe: str, dataset: Dataset, changes: Iterable[str] | Mapping[str, Any] = ()) -> float:
    """Operations that training spends on one image seen, all players' passes in both directions included.

    Matrix products, convolutions and attention are counted, two for a multiplication and an addition; what is done
    value by value is not.

    Arguments:
        recipe: a name from ``reverie models``, or a YAML file's path; a run's own has its parts beside it.
        dataset: what it is trained on.
        changes: as for ``train``.
    """
    asked = read_recipe(recipe, changes)
    config = TrainConfig.read({**asked.train, "precision": "fp32"}, "train")
    resolved, model_config = resolve(asked, dataset.space)
    parts = load_parts(Path(recipe).parent / "parts", resolved) if resolved.parts else {}
    model = build(resolved, model_config, dataset.space, parts, config.seed)
    feed = Feed(dataset, config.seed, model.draws())
    loop = Loop(model, feed, config, Ranks(torch.device("cpu")))
    if not loop.seats:
        return 0.0
    model.on_start(feed)
    with Operations() as counter:
        loop.play_round()
    return counter.total / loop.progress.images
