"""What drawing takes: passes, operations and memory, against counts by hand."""

import torch
from torch import Tensor, nn

import reverie
from reverie.core.batch import Condition
from reverie.core.model import Model, ModelConfig
from reverie.core.noise import Noise
from reverie.core.space import Space
from reverie.evaluation.speed import Held, speed, work
from reverie.models.diffusion.flow_matching import Sampling


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
