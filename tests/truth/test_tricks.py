"""What can be switched on in any GAN, on all of them: against slopes taken by hand, and their own losses without it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from reverie.core.batch import Batch, Condition
from reverie.core.choice import Choice
from reverie.core.model import Model
from reverie.core.noise import KeyedNoise
from reverie.core.player import Progress, Turn
from reverie.core.space import Space
from reverie.models.gan import acgan, began, bigan, can, cogan, ebgan, gan, infogan, ssgan
from reverie.training.build import create

SPACE, IMAGE = Space((3,), classes=4), Space((1, 8, 8), classes=4)
MLP, CODER = Choice(name="mlp", options={"width": 16}), Choice(name="mlp", options={"hidden": [16]})
PAIR = {"generator": MLP, "discriminator": MLP}
GANS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "gan": (gan.GAN, gan.Config, PAIR),
    "acgan": (acgan.ACGAN, acgan.Config, PAIR),
    "can": (can.CAN, can.Config, PAIR),
    "infogan": (infogan.InfoGAN, infogan.Config, PAIR),
    "cogan": (cogan.CoGAN, cogan.Config, PAIR),
    "bigan": (bigan.BiGAN, bigan.Config, {**PAIR, "encoder": CODER}),
    "ssgan": (ssgan.SSGAN, ssgan.Config, PAIR),
    "ebgan": (ebgan.EBGAN, ebgan.Config, {"generator": MLP, "encoder": CODER, "decoder": CODER}),
    "began": (began.BEGAN, began.Config, {"generator": CODER, "encoder": CODER, "decoder": CODER}),
}


def built(name: str, space: Space = SPACE, **changes: object) -> Model:
    torch.manual_seed(0)
    model, config, networks = GANS[name]
    made: Model = model(config(latent=5, **networks, **changes), space, {})
    made.on_start(type("Data", (), {"first": staticmethod(lambda count: turn(space).batch)}))
    return made


def turn(space: Space = SPACE, progress: Progress | None = None) -> Turn:
    ids = torch.arange(8)
    rows = [KeyedNoise(seed, ids, "x").normal(*space.shape) for seed in (1, 2)]
    one, two = (Batch(x, Condition(label=ids % 4), ids, ids) for x in rows)
    return Turn(replace(one, parts={"other": two}), KeyedNoise(0, ids), progress or Progress())


def terms(model: Model, t: Turn) -> dict[str, Tensor]:
    return model.players()[0].loss(t).terms


@pytest.mark.parametrize("name", GANS)
def test_r1_is_half_the_squared_slope_of_the_score(name: str) -> None:
    weight = 0.3
    model, plain, t = built(name, penalties={"r1": weight}), built(name), turn()
    found, without = terms(model, t), terms(plain, turn())
    x = t.batch.x.clone().requires_grad_()

    def half(score: Tensor, points: Tensor) -> float:
        return weight * 0.5 * torch.autograd.grad(score.sum(), points)[0].square().sum(1).mean().item()

    if name == "cogan":  # a penalty for each domain's discriminator; the other domain's rows are negatives
        y = (-t.batch.parts["other"].x).requires_grad_()
        expected = {"r1 1": half(model.judge(x, 0), x), "r1 2": half(model.judge(y, 1), y)}
    elif name == "bigan":  # of the pair: in x and in its code
        pair = torch.cat([x, model.encoder(x, None)], dim=1).detach().requires_grad_()
        expected = {"r1": half(torch.stack(model.score_pair(pair[:, :3], pair[:, 3:])).sum(0), pair)}
    else:
        expected = {"r1": half(model.score(x, t.batch.condition), x)}
    assert {k: found[k].item() for k in expected} == pytest.approx(expected, rel=1e-4)
    assert {k: v.item() for k, v in found.items() if k not in expected} == pytest.approx(
        {k: v.item() for k, v in without.items()}, rel=1e-5
    ), "all else is as it was"
    assert not model.players()[0].compile


@pytest.mark.parametrize("name", GANS)
def test_clipping_bounds_what_judges_and_nothing_else(name: str) -> None:
    model = built(name, clip=0.01)
    player = model.players()[0]
    others = [p.detach().clone() for p in model.players()[1].modules[0].parameters()]
    with torch.no_grad():
        player.after_turn(player.loss(turn()))
    judges = {"acgan": model, "can": model, "infogan": model}.get(name)
    modules = [judges.discriminator] if judges is not None else player.modules
    assert all(p.abs().max() <= 0.01 for module in modules for p in module.parameters())
    assert all(torch.equal(p, q) for p, q in zip(model.players()[1].modules[0].parameters(), others, strict=True))


@pytest.mark.parametrize("name", GANS)
def test_noise_on_what_is_seen_falls_to_nothing(name: str) -> None:
    noisy, plain = built(name, input_noise=0.5), built(name)
    start, end = turn(), turn(progress=Progress(fraction=1.0))
    quiet = {k: v.item() for k, v in terms(plain, turn()).items()}
    assert {k: v.item() for k, v in terms(noisy, end).items()} == pytest.approx(quiet)
    assert {k: v.item() for k, v in terms(noisy, start).items()} != pytest.approx(quiet)
    side = noisy.players()[1]
    mine = {k: v.item() for k, v in side.loss(turn(progress=Progress(fraction=1.0))).terms.items()}
    assert mine != pytest.approx({k: v.item() for k, v in side.loss(turn()).terms.items()}), "G is judged by it too"


@pytest.mark.parametrize("name", GANS)
def test_augmentation_follows_how_sure_the_discriminator_is(name: str) -> None:
    """The probability moves by rows / ramp, up where D is surer than the target."""
    model = built(name, IMAGE, augment={"target": -0.999, "ramp": 80.0})
    player = model.players()[0]
    with torch.no_grad():
        loss = player.loss(turn(IMAGE))
        player.after_turn(loss)
    rows = 16 if name == "cogan" else 8
    expected = rows / 80 if 2 * loss.figures["told apart"] - 1 > -0.999 else 0.0
    assert model.tricks.augmentation.item() == pytest.approx(expected)
    assert math.isfinite(sum(term.item() for term in terms(model, turn(IMAGE)).values()))


def test_recipes_take_them_from_the_command_line() -> None:
    model = create("acgan", IMAGE, changes=["model.augment={}", "model.penalties={r1: 0.1}"])
    assert model.config.augment is not None
    assert model.config.penalties == {"r1": 0.1}
