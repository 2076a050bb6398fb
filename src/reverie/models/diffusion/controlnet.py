r"""ControlNet: a map steers a trained denoiser that itself stays as it is.

A copy of the denoiser's encoder sees the map, and what it makes of it is added, through layers that start at zero, to
the frozen denoiser's skip connections. Training minimises the frozen model's own loss, whatever that is,

.. math:: L = E \lVert \epsilon - \epsilon_\theta(z_t, t, c_t, c_f) \rVert^2

for one that predicts noise: its path, its prediction, its weights and its times. The control acts within the network,
so that all the frozen model can do (its sampler, its guidance, its likelihood) it does under control; without a map it
is the frozen model.

References:
    | Adding Conditional Control to Text-to-Image Diffusion Models (Zhang, Rao and Agrawala, 2023), Section 3
    | https://arxiv.org/abs/2302.05543
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, TypeVar, cast

from torch import Tensor, nn

from reverie.core import model as core
from reverie.core.batch import Condition
from reverie.core.capabilities import Denoises, Observes, Path, Posterior
from reverie.core.errors import RequestError
from reverie.core.noise import Noise
from reverie.core.player import Loss, OptimizerConfig, Player, Turn
from reverie.core.space import Space
from reverie.maths.edges import edges
from reverie.nn.control import Controllable

C = TypeVar("C")


class Config(core.ModelConfig):
    """The model's configuration. Samples are drawn as the base draws them.

    Arguments:
        control: the map: ``edges`` of the image itself, or what comes with the ``data``.
        optimizer: how the copy steps.
    """

    control: Literal["edges", "data"] = "edges"
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-3, warmup=100, clip=1.0)


class ControlNet(core.Model):
    """Creates the control of a trained denoising model.

    Arguments:
        config: its configuration.
        space: what one row is.
        parts: ``base``, a model with a denoiser that can be controlled.

    Raises:
        RequestError: there is no such base, it is of other rows, or there are no maps.
    """

    config: Config
    takes: ClassVar[tuple[str, ...]] = ("base",)
    maps_optional: ClassVar[bool] = True

    def __init__(self, config: Config, space: Space, parts: Mapping[str, core.Part]) -> None:
        super().__init__(config, space, parts)
        if "base" not in parts:
            raise RequestError("controlnet needs base=run:PATH, a trained denoising model")
        self.base = parts["base"]
        base = self.base.model
        self.network = (_controllable(base),)  # in a tuple: it is the base's, and registered there
        _check_same_rows(base.space, space)
        maps = space.maps if config.control == "data" else 1
        if not maps:
            raise RequestError("control = data needs rows that come with a map; these have none (control = edges does)")
        self.space = replace(space, maps=maps)
        self.config = config.model_copy(update={"sampling": base.config.sampling})
        self.control = cast(Controllable, self.network[0]).control(maps).requires_grad_(True).train()
        self.network[0].register_forward_pre_hook(self._steer, with_kwargs=True)

    @property
    def path(self) -> Path:
        return self._denoiser.path

    def players(self) -> Sequence[Player]:
        """The base's own loss, with the copy in the place of the base."""
        (learner,) = [player for player in self.base.model.players() if self.network[0] in player.modules]

        def loss(turn: Turn) -> Loss:
            return learner.loss(turn._replace(batch=replace(turn.batch, condition=self._condition(turn))))

        return (Player(name="control", modules=(self.control,), loss=loss, optimizer=self.config.optimizer),)

    def averaged(self) -> Sequence[nn.Module]:
        return (self.control,)

    def observe(self, x: Tensor, noise: Noise) -> Tensor:
        """The edges of images, ``[B, 1, H, W]``."""
        return edges(x)

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Posterior:
        return self._denoiser.denoise(x_t, t, condition)

    def enter(self, x: Tensor) -> Tensor:
        return self._denoiser.enter(x)

    def leave(self, z: Tensor) -> Tensor:
        return self._denoiser.leave(z)

    def sample(self, noise: Noise, condition: Condition | None = None, how: core.Sampling | None = None) -> Tensor:
        self.space.at(getattr(how, "size", None))  # the base, which knows of no maps, would take any
        return self.base.model.sample(noise, condition, how)

    def view(self, kind: type[C]) -> C | None:
        """What this model has itself, and what its base has: the base does it under control."""
        if kind is Observes and self.config.control == "data":
            return None
        return super().view(kind) or self.base.model.view(kind)

    @property
    def _denoiser(self) -> Denoises:
        denoiser = self.base.model.view(Denoises)
        assert denoiser is not None, "held in __init__"
        return denoiser

    def _condition(self, turn: Turn) -> Condition:
        batch = turn.batch
        if self.config.control == "data":
            return batch.condition
        return replace(batch.condition, image=self.observe(batch.x, turn.noise))

    def _steer(self, network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the base's network is called with, and the control's residuals where there is a map."""
        x, t, condition = _call(*args, **kwargs)
        if condition is None or condition.image is None:
            return None
        return (x, t, condition), {"residuals": self.control(x, t, condition)}


def _call(x: Tensor, t: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor, Condition | None]:
    """The arguments of a denoising network, by position or by name."""
    return x, t, condition


def _controllable(base: core.Model) -> nn.Module:
    """The base's denoising network.

    Raises:
        RequestError: it has none, or one that cannot be controlled.
    """
    names = [name for name, (role, _) in base.networks.items() if role == "denoiser"]
    if base.view(Denoises) is None or len(names) != 1:
        raise RequestError("the base is no model with one denoising network; controlnet needs one, such as ddpm")
    network = getattr(base, names[0])
    if not isinstance(network, Controllable):
        raise RequestError("the base's network cannot be controlled; a unet and a dit can")
    return cast(nn.Module, network)


def _check_same_rows(base: Space, space: Space) -> None:
    """Raises RequestError where the base was trained on rows of another kind."""
    if base.shape != space.shape:
        raise RequestError(f"the base makes rows of shape {list(base.shape)}, and these are {list(space.shape)}")
    if base.classes != space.classes:
        raise RequestError(f"the base knows {base.classes} classes, and these rows have {space.classes}")
    if base.maps:
        raise RequestError("the base is conditioned on maps itself; control one that is not")
