"""Players: who is trained, on which loss, how often.

Each round of training is, for each player: repeat ``turns`` times: loss, backward, reduce gradients, step, after_turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn

from reverie.core.batch import Batch
from reverie.core.noise import Noise
from reverie.core.strict import Strict


class Progress(NamedTuple):
    """How far training is: stored, equal on all ranks, never decreasing.

    Arguments:
        round: rounds completed.
        images: rows seen.
        fraction: 0 at the start, 1 when the budget is spent.
    """

    round: int = 0
    images: int = 0
    fraction: float = 0.0


class Turn(NamedTuple):
    """One player's turn: its batch, its noise, and which of its turns of this round it is."""

    batch: Batch
    noise: Noise
    progress: Progress
    index: int = 0  # type: ignore[assignment]  # the field hides a method of tuples that nobody calls


@dataclass(frozen=True)
class Loss:
    """What a loss returns: the sum of ``terms`` is minimised, the rest is only watched.

    Arguments:
        terms: named scalars whose sum is minimised.
        figures: named scalars, averaged over micro-batches and ranks, for the journal.
        sums: named tensors, summed over micro-batches and ranks (codebook counts).
    """

    terms: Mapping[str, Tensor]
    figures: Mapping[str, Tensor] = field(default_factory=dict)
    sums: Mapping[str, Tensor] = field(default_factory=dict)


Decay = Annotated[float, Field(ge=0, lt=1)]
"""How much of a running mean is kept from step to step."""


class OptimizerConfig(Strict):
    """How a player steps.

    Arguments:
        name: the rule, one of torch's.
        lr: the learning rate after warm-up.
        betas: Adam's two decay rates.
        momentum: of SGD and RMSProp.
        weight_decay: decoupled in AdamW, an L2 term elsewhere.
        eps: added to the denominator of Adam and RMSProp.
        warmup: rounds over which the rate rises linearly from 0.
        schedule: ``constant``, or ``cosine`` to 0 over the whole budget.
        clip: the gradient's greatest norm over the player's parameters; None leaves it as it is.
    """

    name: Literal["adam", "adamw", "rmsprop", "sgd"] = "adam"
    lr: float = Field(2e-4, ge=0)
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    momentum: Decay = 0.0
    weight_decay: float = Field(0.0, ge=0)
    eps: float = Field(1e-8, gt=0)
    warmup: int = Field(0, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    clip: float | None = Field(None, gt=0)

    @field_validator("momentum")
    @classmethod
    def _some_rule_has_momentum(cls, momentum: float, info: ValidationInfo) -> float:
        name = info.data.get("name")
        if momentum and name in ("adam", "adamw"):
            raise ValueError(f"{name} has no momentum but betas[0]; set that, or take rmsprop or sgd")
        return momentum


@dataclass(frozen=True, kw_only=True)
class Player:
    """One party of the training.

    Arguments:
        name: ``"generator"``, ``"critic"``, ``"denoiser"``.
        modules: what it updates; nothing else gets a gradient in its turn. Players may overlap.
        loss: may write ``Memory`` only; all other state changes in ``after_turn``.
        optimizer: how it steps.
        turns: steps a round (WGAN's n_critic is 5); turn k of every player sees batch k of the round.
        every: plays in every n-th round.
        window: the part of the training in which it plays, as fractions of progress.
        after_turn: called with the reduced loss after the step: clipping weights, controllers, codebooks.
        compile: False where the loss differentiates twice (torch.compile refuses that).
    """

    name: str
    modules: Sequence[nn.Module]
    loss: Callable[[Turn], Loss]
    optimizer: OptimizerConfig = OptimizerConfig()
    turns: int = 1
    every: int = 1
    window: tuple[float, float] = (0.0, 1.0)
    after_turn: Callable[[Loss], None] | None = None
    compile: bool = True
