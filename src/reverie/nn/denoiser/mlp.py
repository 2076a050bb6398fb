"""A residual multilayer perceptron that denoises points."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor, nn

from reverie.core.batch import Condition
from reverie.core.errors import RequestError
from reverie.core.space import Space
from reverie.core.strict import Strict
from reverie.nn.conditioning import concatenated
from reverie.nn.embedding import ConditionEmbedding
from reverie.nn.zeroed import zeroed


class Config(Strict):
    """A residual multilayer perceptron.

    Arguments:
        width: hidden units.
        blocks: residual blocks of two layers.
        dropout: share of hidden units dropped within each block.
    """

    width: int = Field(128, ge=4)
    blocks: int = Field(3, ge=1)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)


class Block(nn.Module):
    """Creates a residual block whose hidden layer the condition scales and shifts; it starts as the identity."""

    def __init__(self, width: int, condition: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.modulation = nn.Linear(condition, 2 * width)
        self.layer_1 = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.layer_2 = zeroed(nn.Linear(width, width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition).chunk(2, dim=1)
        h = self.layer_1(self.norm(x) * (1.0 + scale) + shift)
        return x + self.layer_2(self.dropout(nn.functional.silu(h)))


class Network(nn.Module):
    """Creates a residual multilayer perceptron on rows ``[B, D]`` (rows of any other shape are flattened).

    What points are conditioned on, ``Condition.image`` ``[B, maps]``, is concatenated; a sequence is not taken.

    Arguments:
        config: its sizes.
        space: what one row is.
    """

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        self.embedding = ConditionEmbedding(space, 64, config.width)
        self.maps, self.shape = space.maps, space.shape
        places = space.size // space.shape[0]
        self.stem = nn.Linear(space.size + space.maps * places, config.width)
        self.blocks = nn.ModuleList([Block(config.width, config.width, config.dropout) for _ in range(config.blocks)])
        self.norm = nn.LayerNorm(config.width)
        self.head = zeroed(nn.Linear(config.width, space.size))

    def forward(
        self, x: Tensor, t: Tensor, condition: Condition | None = None, residuals: Sequence[Tensor] = ()
    ) -> Tensor:
        """Returns a tensor of x's shape; ``residuals``, ``[B, width]`` each, are added after the blocks in order."""
        if x.shape[1:] != self.shape:
            raise RequestError(f"an mlp knows rows of shape {list(self.shape)} alone, not {list(x.shape[1:])}")
        vector = self.embedding(t, condition)
        h = self.stem(concatenated(x, condition, self.maps).flatten(1))
        for k, block in enumerate(self.blocks):
            h = block(h, vector)
            if k < len(residuals):
                h = h + residuals[k]
        y: Tensor = self.head(nn.functional.silu(self.norm(h)))
        return y.view(x.shape).to(x.dtype)
