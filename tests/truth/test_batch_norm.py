"""Batch norm's statistics for averaged weights, against the variance that those weights give."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reverie.core.batch import Batch, Condition
from reverie.core.model import Model, ModelConfig
from reverie.core.noise import Noise
from reverie.core.space import Space
from reverie.training.batch_norm import fresh_statistics


class Normed(Model):
    """Samples are BN(W z): its statistics are 0 and the squared length of W's rows. A second one sees rows alone."""

    def __init__(self) -> None:
        super().__init__(ModelConfig(), Space((2,)), {})
        self.linear, self.norm, self.unused = nn.Linear(3, 2, bias=False), nn.BatchNorm1d(2), nn.BatchNorm1d(2)

    def averaged(self) -> Sequence[nn.Module]:
        return (self,)

    def sample(self, noise: Noise, condition: Condition | None = None, how: Any = None) -> Tensor:
        x: Tensor = self.norm(self.linear(noise.normal(3)))
        return x

    def score(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self.unused(x).sum(1)


def test_statistics_are_those_of_the_present_weights() -> None:
    model = Normed()
    model.norm.running_var.fill_(100.0)
    model.unused.running_var.fill_(7.0)
    with torch.no_grad():
        model.linear.weight.copy_(torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.5, 0.0]]))
    with fresh_statistics(model, 2048, 0, "fp32"):
        assert not model.norm.training
        # 16,384 rows: the standard error of a variance is its value times sqrt(2 / n), of a mean sqrt(var / n).
        torch.testing.assert_close(model.norm.running_var, torch.tensor([9.0, 0.25]), rtol=0.045, atol=0)
        torch.testing.assert_close(model.norm.running_mean, torch.zeros(2), rtol=0, atol=0.1)
        assert torch.equal(model.unused.running_var, torch.full((2,), 7.0)), "sampling does not pass it"
    x = torch.tensor([[1.0, 3.0], [3.0, 7.0]])
    with fresh_statistics(model, 2, 0, "fp32", real=lambda ids: Batch(x, Condition(), ids, ids)):
        torch.testing.assert_close(model.unused.running_mean, torch.tensor([2.0, 5.0]))
        torch.testing.assert_close(model.unused.running_var, torch.tensor([2.0, 8.0]))
    assert torch.equal(model.norm.running_var, torch.full((2,), 100.0)), "training goes on with its own"
    assert model.norm.momentum == 0.1
    assert model.training
    assert model.norm.training
