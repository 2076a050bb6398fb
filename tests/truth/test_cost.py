"""What drawing takes: passes, operations and memory, against counts by hand."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import reverie
from reverie.core.batch import Condition
from reverie.core.model import Model, ModelConfig
from reverie.core.noise import KeyedNoise, Noise
from reverie.core.space import Space
from reverie.data import DataConfig, open_data
from reverie.evaluation.speed import Held, speed, work
from reverie.models.diffusion.flow_matching import Sampling
from reverie.training.flops import Operations, flops_per_image


class Linear(Model):
    """Two passes of a linear map, and a large value that is let go between them."""

    def __init__(self) -> None:
        super().__init__(ModelConfig(), Space((6,)), {})
        self.map = nn.Linear(6, 6)

    def averaged(self) -> list[nn.Module]:
        return [self.map]

    def sample(self, noise: Noise, condition: Condition | None = None, how: object = None) -> Tensor:
        x = self.map(noise.normal(6))
        large = torch.zeros(len(x), 1000)
        x = x + large.sum()
        del large
        return self.map(x)


def test_passes_and_operations_by_hand() -> None:
    found = work(Linear(), batch=8)
    assert found.evaluations == 2
    assert found.flops == 2 * 2 * 6 * 6
    weights = 4 * (36 + 6)
    assert 8 * 1000 * 4 + weights < found.bytes < 1.3 * 8 * 1000 * 4 + weights


def test_memory_is_of_what_is_held_at_once() -> None:
    before = torch.zeros(1000)
    with Held() as held:
        a = torch.zeros(500)  # 2,000 bytes
        b = a.view(5, 100)  # the same memory
        del a
        c = b + 1  # 2,000 more
        del b, c
        before.view(10, 100)  # not made here
        d = torch.zeros(250)
    assert held.most == 4000
    del d


def test_a_samplers_steps_are_counted() -> None:
    model = reverie.create("flow-matching", Space((2,)))
    assert work(model, how=Sampling(steps=7)).evaluations == 7
    assert work(model, how=Sampling(steps=7, solver="heun")).evaluations == 13  # the last step is Euler's
    times = speed(model, batch=4, seconds=0.0)
    assert len(times.together) == len(times.alone) == 3
    assert all(t > 0 for t in times.together)
    assert times.parameters == sum(p.numel() for p in model.parameters())


def test_operations_are_torchs_own_count() -> None:
    """A U-Net with attention forward, by torch's counter; a gradient penalty, which torch's counter cannot, by hand."""
    model = reverie.create("flow-matching", Space((1, 16, 16)))
    with FlopCounterMode(display=False) as theirs, torch.no_grad():
        model.sample(KeyedNoise(0, torch.arange(2)), how=Sampling(steps=1))
    with Operations() as ours, torch.no_grad():
        model.sample(KeyedNoise(0, torch.arange(2)), how=Sampling(steps=1))
    assert ours.total == theirs.get_total_flops() > 1e6
    a, x = torch.ones(3, 3, requires_grad=True), torch.ones(4, 3, requires_grad=True)
    with Operations() as counter:
        (slope,) = torch.autograd.grad((x @ a).square().sum(), x, create_graph=True)
        slope.square().sum().backward()
    once = 2 * 4 * 3 * 3
    assert counter.total == 6 * once  # y; its slope g a'; and back: g from a', g's own part to a and to y, y to a and x


def test_gradient_penalties_can_be_counted() -> None:
    dataset = open_data(DataConfig(source="ring"))
    plain, penalised = (flops_per_image("gan", dataset, [f"model.penalties={p}"]) for p in ("{}", "{r1: 1.0}"))
    assert penalised > plain > 0
