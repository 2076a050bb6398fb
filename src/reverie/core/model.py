"""A model is anything that has players and can be sampled."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar, cast

from torch import Tensor, nn

from reverie.core.batch import Batch, Condition, Draw
from reverie.core.choice import Choice
from reverie.core.noise import Noise
from reverie.core.player import Player, Progress
from reverie.core.space import Space
from reverie.core.strict import Strict

C = TypeVar("C")


class Sampling(Strict):
    """A model's choices at sampling time (steps, guidance, truncation …); defaults stand in the recipe."""


class ModelConfig(Strict):
    """A model's configuration. A model's file extends it as ``Config``; unknown keys are errors."""

    sampling: Sampling = Sampling()


class Data(Protocol):
    """What a model may see of the data before training (``Model.on_start``)."""

    space: Space

    def first(self, count: int) -> Batch:
        """The first ``count`` training rows of the run's order, all of them where ``count`` is 0."""


class Memory(nn.Module):
    """State that training needs and sampling does not (image pools, replay buffers).

    Its buffers are kept in checkpoints, a file a rank, and not in ``model.safetensors``.
    """


class Part(nn.Module):
    """Another run's model, held: always in eval mode, without gradients, outside ``state_dict``.

    It follows ``.to()``; ``part.model`` is the model.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Part:
        super().train(False)
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Part:
        super().requires_grad_(False)
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:  # torch's own signature is open
        return kwargs.get("destination") or {}

    def _load_from_state_dict(self, *args: Any) -> None:
        return None


class Model(nn.Module, ABC):
    """The base of every model: ``Config`` and one ``Model`` a file.

    All state that changes is a parameter or a buffer, never a Python attribute.

    Arguments:
        config: the model's own ``Config``.
        space: what one row of the data is. ``self.space`` is what a sample is: a model that sees labels, and draws
            samples of no given class, takes the classes out of it.
        parts: other runs' models that the recipe names.
    """

    networks: ClassVar[Mapping[str, tuple[str, Choice]]] = {}
    """Which fields of the configuration choose a network: the role, and the model's own choice."""
    takes: ClassVar[tuple[str, ...]] = ()
    """Which parts it can hold, of ``recipe.PARTS``; ``start`` is not asked of the model."""
    maps_optional: ClassVar[bool] = False
    """Whether it draws without the maps of its space, too."""

    def __init__(self, config: ModelConfig, space: Space, parts: Mapping[str, Part]) -> None:
        super().__init__()
        self.config = config
        self.space = self.data_space = space

    def players(self) -> Sequence[Player]:
        """Who is trained; nobody where ``on_start`` fits the model (mixtures, kernel densities)."""
        return ()

    def averaged(self) -> Sequence[nn.Module]:
        """What sampling uses: parameters are averaged over training, batch norm's statistics taken anew for them."""
        return ()

    def draws(self) -> Mapping[str, Draw]:
        """Other draws of the data that the losses need beside the main one."""
        return {}

    def view(self, kind: type[C]) -> C | None:
        """This model as one that has the capability ``kind``, or None."""
        return cast(C, self) if isinstance(self, kind) else None

    def notes(self) -> Sequence[str]:
        """What is said before a training, a sentence each: of settings seldom wanted, of data not looked at."""
        return ()

    def on_start(self, data: Data) -> None:
        """Called once, in fresh runs only, before the first round: data-dependent initialisation."""

    def on_progress(self, progress: Progress) -> None:
        """Called each round and after a resume, idempotent: state that sampling needs."""

    @abstractmethod
    def sample(self, noise: Noise, condition: Condition | None = None, how: Any = None) -> Tensor:
        """Returns one row for each row of ``noise``, ``[B, *space.shape]``; images in [-1, 1].

        Arguments:
            noise: all randomness of the samples.
            condition: what to sample; None for no condition.
            how: the model's own ``Sampling``; None for the recipe's.
        """
