"""The bias-corrected average against its definition, and learning rates against hand-computed ones."""

import pytest
import torch
from torch import nn

from reverie.core.batch import Batch, Condition
from reverie.core.errors import RequestError
from reverie.core.model import Model, ModelConfig
from reverie.core.player import Loss, OptimizerConfig, Player, Progress
from reverie.core.space import Space
from reverie.training.average import Average
from reverie.training.config import AverageConfig, TrainConfig, seconds
from reverie.training.loop import Loop
from reverie.training.optimizers import learning_rate
from reverie.training.ranks import Ranks


def test_average_is_its_definition() -> None:
    layer = nn.Linear(3, 2).double()
    average = Average([layer], half_life=100, batch=25)
    beta = 0.5 ** (25 / 100)
    seen = []
    for step in range(6):
        with torch.no_grad():
            layer.weight.normal_(generator=torch.Generator().manual_seed(step))
        seen.append(layer.weight.detach().clone())
        average.update()
    weights = torch.tensor([beta ** (6 - i) for i in range(1, 7)], dtype=torch.float64)
    expected = (weights[:, None, None] * torch.stack(seen)).sum(0) * (1 - beta) / (1 - beta**6)
    live = layer.weight.detach().clone()
    with average.in_place():
        torch.testing.assert_close(layer.weight, expected, rtol=0, atol=1e-14)
    assert torch.equal(layer.weight, live)


def test_first_average_is_the_first_weights() -> None:
    layer = nn.Linear(3, 2)
    average = Average([layer], half_life=1e6, batch=1)
    with torch.no_grad():
        layer.weight.fill_(5.0)
    average.update()
    with average.in_place():
        torch.testing.assert_close(layer.weight, torch.full_like(layer.weight, 5.0))


class Counter(Model):
    """A weight that is the number of its player's turns, four a round."""

    def __init__(self) -> None:
        super().__init__(ModelConfig(), Space((1,)), {})
        self.weight = nn.ParameterList([torch.zeros(())])

    def players(self) -> list[Player]:
        optimizer = OptimizerConfig(name="sgd", lr=1.0)
        return [Player(name="counter", modules=(self.weight,), loss=self.loss, optimizer=optimizer, turns=4)]

    def loss(self, turn: object) -> Loss:
        return Loss({"down": -self.weight[0]})

    def averaged(self) -> list[nn.Module]:
        return [self.weight]

    def sample(self, noise: object, condition: object = None, how: object = None) -> torch.Tensor:
        return torch.zeros(1)


class Nothing:
    """Batches that nobody looks at."""

    def batch(self, first: int, count: int) -> Batch:
        ids = torch.arange(first, first + count)
        return Batch(torch.zeros(count, 1), Condition(), ids, ids)


def test_the_half_life_is_of_all_images_of_a_round() -> None:
    """After two rounds of 4 turns x 2 images the older share is half of the later one, at a half-life of 8."""
    model = Counter()
    config = TrainConfig(batch=2, steps=2, average=AverageConfig(half_life=8))
    loop = Loop(model, Nothing(), config, Ranks(torch.device("cpu")))
    loop.play_round()
    loop.play_round()
    assert loop.progress.images == 16
    with loop.average.in_place():
        assert model.weight[0].item() == pytest.approx((4 + 2 * 8) / 3)


def test_learning_rates() -> None:
    config = OptimizerConfig(lr=1.0, warmup=4, schedule="cosine")
    rates = [learning_rate(config, Progress(r, 0, f)) for r, f in [(0, 0.0), (1, 0.0), (9, 0.0), (9, 0.5), (9, 1.0)]]
    assert rates == pytest.approx([0.25, 0.5, 1.0, 0.5, 0.0])


@pytest.mark.parametrize(("text", "value"), [("90", 90), ("10m", 600), ("1h30m", 5400), (7, 7), ("1.5s", 1.5)])
def test_durations(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "10x", "m", "-5", "0", "5m3"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        seconds(text)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"betas": [0.9, 1.0]}, r"model.optimizer.betas.1 = 1.0: Input should be less than 1"),
        ({"betas": [-0.1, 0.9]}, r"model.optimizer.betas.0 = -0.1: Input should be greater than or equal to 0"),
        ({"name": "sgd", "momentum": 1.0}, r"model.optimizer.momentum = 1.0: Input should be less than 1"),
        ({"name": "sgd", "momentum": -0.5}, r"model.optimizer.momentum = -0.5: Input should be greater"),
        ({"weight_decay": -1e-3}, r"model.optimizer.weight_decay = -0.001: Input should be greater"),
        ({"eps": 0}, r"model.optimizer.eps = 0: Input should be greater than 0"),
        ({"momentum": 0.9}, r"model.optimizer.momentum = 0.9: adam has no momentum but betas\[0\]; set that"),
    ],
)
def test_steps_that_no_optimiser_takes_are_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        OptimizerConfig.read(given, "model.optimizer")


def test_the_bounds_of_an_optimiser_are_taken() -> None:
    """Each at its edge; and betas under sgd, as where a recipe gives them and the rule is changed beside it."""
    edge = {"name": "sgd", "betas": [0, 0.99], "momentum": 0, "weight_decay": 0, "eps": 1e-12}
    assert OptimizerConfig.read(edge, "").betas == (0.0, 0.99)
