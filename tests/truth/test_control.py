"""ControlNet: the base as it was at the start, and ever after; the copy alone learns; the map reaches the picture."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import reverie
from reverie.core.batch import Batch, Condition
from reverie.core.capabilities import Bounds, Denoises, Encodes, LogProb, Observes
from reverie.core.errors import RequestError
from reverie.core.model import Part
from reverie.core.noise import KeyedNoise
from reverie.core.player import Progress, Turn
from reverie.core.space import Space
from reverie.data import DataConfig, open_data
from reverie.evaluation.measures.maps import measure
from reverie.maths.edges import edges
from reverie.models.diffusion.controlnet import Config, ControlNet
from reverie.training.build import load

SPACE = Space((1, 8, 8), depth=256, classes=3)
UNET = {"name": "unet", "width": 8, "multipliers": [1, 2]}
DIT = {"name": "dit", "width": 16, "depth": 2, "patch": 2, "head_width": 8}
NETWORKS = pytest.mark.parametrize(
    ("base", "network"), [("ddpm", UNET), ("flow-matching", UNET), ("flow-matching", DIT)]
)


def trained(name, network, space=SPACE):
    """A base whose weights are all random, in place of a trained one; the same each time."""
    model = reverie.create(name, space, changes={"model.network": network, "model.sampling.steps": 3})
    generator = torch.Generator().manual_seed(1)
    for p in model.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=generator)
    return model


def controlled(name, network, **config):
    return ControlNet(Config(**config), SPACE, {"base": Part(trained(name, network))}).eval()


def turn(rows=4):
    ids = torch.arange(rows)
    x = KeyedNoise(0, ids, "x").uniform(1, 8, 8) * 2 - 1
    return Turn(Batch(x, Condition(label=ids % 3), ids, ids), KeyedNoise(0, ids, "turn"), Progress())


def everything(model, condition):
    """What a denoising model gives for a condition: estimates, and samples under guidance."""
    now = turn()
    t = torch.tensor([0.1, 0.4, 0.7, 1.0])
    how = model.config.sampling.model_copy(update={"guidance": 2.0})
    return [model.denoise(now.batch.x, t, condition).mean, model.sample(now.noise.fork("s"), condition, how)]


@NETWORKS
def test_it_starts_as_its_base_bit_for_bit(base, network):
    model, plain = controlled(base, network), trained(base, network).eval()
    now = turn()
    condition = replace(now.batch.condition, image=edges(now.batch.x))
    for a, b in zip(everything(model, condition), everything(plain, now.batch.condition), strict=True):
        assert torch.equal(a, b)
    (ours,), (theirs,) = model.players(), plain.players()
    terms, expected = ours.loss(now).terms, theirs.loss(now).terms
    assert terms.keys() == expected.keys()
    assert all(torch.equal(terms[k], expected[k]) for k in terms)


@NETWORKS
def test_the_copy_alone_learns(base, network):
    model, plain = controlled(base, network).train(), trained(base, network)
    assert not model.base.model.training
    (player,) = model.players()
    weights = [p for module in player.modules for p in module.parameters()]
    assert all(p.requires_grad for p in weights)
    assert {id(p) for p in weights} == {id(p) for p in model.parameters() if p.requires_grad}
    optimizer = torch.optim.Adam(weights, lr=0.01)
    reached = set()
    for _ in range(3):
        optimizer.zero_grad()
        torch.stack(list(player.loss(turn()).terms.values())).sum().backward()
        assert all(p.grad is None for p in model.base.model.parameters())
        reached |= {n for n, p in model.control.named_parameters() if p.grad is not None and p.grad.any()}
        optimizer.step()
    assert reached == dict(model.control.named_parameters()).keys()
    assert set(model.state_dict()) == {f"control.{name}" for name in reached}, "the base is another file's"
    for (name, ours), theirs in zip(model.base.model.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    # It has an effect now, through its map; without a map it is the base still.
    now = turn()
    condition = replace(now.batch.condition, image=edges(now.batch.x))
    other = replace(condition, image=-condition.image)
    model.eval(), plain.eval()
    for a, b, c in zip(
        everything(model, condition), everything(model, other), everything(plain, condition), strict=True
    ):
        assert not torch.equal(a, b)
        assert not torch.equal(a, c)
    for a, b in zip(everything(model, now.batch.condition), everything(plain, condition), strict=True):
        assert torch.equal(a, b)


def test_it_can_what_its_base_can():
    flow, ddpm = controlled("flow-matching", UNET), controlled("ddpm", UNET)
    assert flow.view(Denoises) is flow
    assert flow.view(LogProb) is flow.base.model
    assert flow.view(Encodes) is not None
    assert ddpm.view(Bounds) is ddpm.base.model
    assert ddpm.view(LogProb) is None
    assert flow.space.maps == 1
    assert flow.data_space.maps == 0
    assert torch.equal(flow.view(Observes).observe(turn().batch.x, turn().noise), edges(turn().batch.x))
    assert flow.config.sampling.steps == 3
    space = replace(SPACE, maps=2)
    model = ControlNet(Config(control="data"), space, {"base": Part(trained("ddpm", UNET))})
    assert model.space.maps == 2
    assert model.view(Observes) is None


def test_bases_that_cannot_be_controlled():
    points = Space((2,))
    for base, space, config, says in [
        (None, SPACE, Config(), "needs base=run:PATH"),
        (reverie.create("dcgan", Space((1, 16, 16))), Space((1, 16, 16)), Config(), "no model with one denoising"),
        (reverie.create("ddpm", points), points, Config(), "a unet and a dit can"),
        (trained("ddpm", UNET), Space((1, 16, 16), classes=3), Config(), r"shape \[1, 8, 8\]"),
        (trained("ddpm", UNET), Space((1, 8, 8)), Config(), "knows 3 classes"),
        (trained("ddpm", UNET), SPACE, Config(control="data"), "have none"),
    ]:
        with pytest.raises(RequestError, match=says):
            ControlNet(config, space, {} if base is None else {"base": Part(base)})


def test_training_on_a_run_keeps_the_run(tmp_path):
    changes = {
        "train.batch": 4,
        "train.steps": 2,
        "train.time": None,
        "train.grids": 0,
        "train.precision": "fp32",
        "data.size": 16,
    }
    base = reverie.train("flow-matching", "digits", out=tmp_path / "base", changes=changes, quiet=True)
    changes["base"] = f"run:{base.folder}"
    run = reverie.train("controlnet", "digits", out=tmp_path / "control", changes=changes, quiet=True)
    part = run.parts / "base" / "model.safetensors"
    assert part.read_bytes() == base.model_file.read_bytes()
    model = load(run)
    ids = torch.arange(3)
    condition = Condition(image=torch.ones(3, 1, 16, 16))
    x = model.sample(KeyedNoise(0, ids), condition)
    assert torch.equal(x, load(run).sample(KeyedNoise(0, ids), condition))
    assert not torch.equal(x, load(base).sample(KeyedNoise(0, ids), condition)), "two steps of the copy are seen"


def test_the_agreement_of_edges_is_measured_on_samples():
    """Of 'samples' that are the very rows whose edges were asked for it is 1, of other rows what chance gives."""
    dataset = open_data(DataConfig(source="digits", size=16, condition="none"))
    model: Any = controlled("flow-matching", UNET)
    model.space = replace(model.space, shape=(1, 16, 16), classes=0)
    asks = dataset.asks(model.space, model)
    order = np.random.Generator(np.random.Philox(0)).permutation(len(dataset.held_out))

    def figure(places):
        x = dataset.held_out.take(order[places])[0]
        subject: Any = SimpleNamespace(
            model=model, asks=asks, dataset=dataset, drawn=SimpleNamespace(first=x), recipe=lambda *of: ""
        )
        return measure(subject)["edge_agreement"]

    assert figure(np.arange(20)).estimate.value == 1.0
    other = figure(np.arange(1, 21))
    assert other.estimate.value < 0.95
    assert other.note.endswith("with the edges of another sample's map")
