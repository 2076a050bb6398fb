"""The test error of a model that is a classifier: against one whose mistakes are known."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from reverie.core.capabilities import Classifies
from reverie.data.config import DataConfig
from reverie.data.dataset import Dataset, open_data
from reverie.evaluation.classification import mistaken
from reverie.evaluation.measures.classification import measure


class Knows(nn.Module):
    """Takes the brightness for the class, and all of class 2 for class 0."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def class_logits(self, x: Tensor) -> Tensor:
        level = ((x.flatten(1)[:, 0] + 1) * 127.5 / 80).floor().long()
        return nn.functional.one_hot(torch.where(level == 2, 0, level), 3).float()

    def view(self, kind: type) -> Any:
        return self if isinstance(self, kind) else None


def subject(data: Dataset, model: nn.Module) -> Any:
    return SimpleNamespace(
        model=model,
        dataset=data,
        batch=7,
        left_out={},
        features=SimpleNamespace(classifier=None),
        recipe=lambda *parts: " ".join(map(str, parts)),
    )


@pytest.fixture
def shades(tmp_path: Path) -> Dataset:
    for k in range(3):
        (tmp_path / f"{k}").mkdir()
        for i in range(20):
            Image.new("L", (4, 4), 80 * k + i).save(tmp_path / f"{k}" / f"{i}.png")
    return open_data(DataConfig(source=str(tmp_path), size=4, held_out=0.5))


def test_mistakes_by_hand() -> None:
    logits = torch.tensor([[0.0, 1.0], [2.0, 1.0], [3.0, 4.0], [0.0, 9.0]])
    assert mistaken(logits, torch.tensor([1, 1, 0, -1])).tolist() == [False, True, True]


def test_the_test_error_is_the_share_of_rows_of_the_class_that_it_mistakes(shades: Dataset) -> None:
    labels = shades.held_out.labels
    assert labels is not None
    wrong, count = int((labels == 2).sum()), len(labels)
    assert 0 < wrong < count
    figure = measure(subject(shades, Knows()))["test_error"]
    assert figure.estimate.value == pytest.approx(wrong / count)
    assert figure.rows == count
    assert figure.estimate.low < wrong / count < figure.estimate.high
    assert figure.better == "lower"


def test_it_is_asked_of_classifiers_and_of_rows_with_labels(shades: Dataset) -> None:
    class Plain(Knows):
        view = lambda self, kind: None  # noqa: E731

    assert measure(subject(shades, Plain())) == {}
    assert isinstance(Knows(), Classifies)
    nothing = SimpleNamespace(held_out=SimpleNamespace(labels=np.full(4, -1)))
    asked = subject(nothing, Knows())
    assert measure(asked) == {}
    assert asked.left_out == {"Test error": "no held-out row has a label"}
