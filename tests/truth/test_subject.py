"""What is measured: real rows in their own order, stand-ins that the reference lacks, models that break."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reverie.core.errors import ReverieError
from reverie.core.space import Space
from reverie.evaluation import moments as module
from reverie.evaluation.measures.distances import measure
from reverie.evaluation.moments import Moments
from reverie.evaluation.subject import Subject


class Points(nn.Module):
    """Draws the rows that it was given, in order."""

    space = Space((1,))

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = rows

    def sample(self, noise: Any, condition: Any = None, how: Any = None) -> Tensor:
        return self.rows[noise.ids]

    def view(self, kind: type) -> None:
        return None


def subject(train: Tensor, held: Tensor, samples: Tensor, count: int | None = None) -> Subject:
    def of_rows(rows: Tensor, chosen: np.ndarray | None = None) -> Iterator[Tensor]:
        yield rows if chosen is None else rows[torch.from_numpy(chosen)]

    dataset: Any = SimpleNamespace(
        train=train,
        held_out=held,
        rows_hash="0" * 64,
        config=SimpleNamespace(held_out=0.1),
        space=Points.space,
        asks=lambda *of: None,
    )
    features: Any = SimpleNamespace(
        size=1, of_rows=of_rows, extract=lambda x: x.flatten(1), classifier=None, key="coordinates"
    )
    model: Any = Points(samples)
    return Subject(None, model, dataset, features, count=count or len(samples), say=lambda line: None)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "reverie.evaluation.subject.training_moments", lambda dataset, features, cache: Moments(1).add(dataset.train)
    )


def test_a_source_sorted_by_class_is_measured_over_all_its_classes() -> None:
    """Two classes, at -5 and 5, one after the other, and samples of half as many rows as are held out."""
    generator = torch.Generator().manual_seed(2)

    def rows(count: int) -> Tensor:
        middle = torch.tensor([-5.0, 5.0]).repeat_interleave(count // 2)[:, None]
        return torch.randn(count, 1, generator=generator) + middle

    figures = measure(subject(rows(2000), rows(1000), rows(1000)[::2]))
    # Of the first class alone the squared distance of means is 25, and the kernel's about 26^3.
    for name, most in {"frechet_distance": 1.0, "kernel_distance": 3000.0}.items():
        real = figures[name].real
        assert real is not None
        assert abs(real.value) < most, name


def test_training_rows_stand_in_where_held_out_rows_are_too_few() -> None:
    train, held = torch.arange(100.0)[:, None], 1000 + torch.arange(10.0)[:, None]
    real = subject(train, held, torch.zeros(30, 1)).reference
    lent = real.stand_in[10:]
    assert set(real.stand_in[:10].flatten().tolist()) == set(held.flatten().tolist())
    assert len(real.stand_in) == 30
    rest = sorted(set(train.flatten().tolist()) - set(lent.flatten().tolist()))
    assert sorted(real.rows.flatten().tolist()) == rest
    assert real.rest.count == 80
    assert float(real.rest.mean) == pytest.approx(np.mean(rest))
    assert float(real.rest.covariance) == pytest.approx(np.var(rest, ddof=1))
    assert float(real.train.covariance) == pytest.approx(float(train.var()))


def test_a_model_that_breaks_is_told_once_and_for_all() -> None:
    rows = torch.zeros(300, 1)
    rows[290] = torch.nan
    broken = subject(torch.zeros(10, 1), torch.zeros(10, 1), rows)
    for _ in range(2):
        with pytest.raises(ReverieError, match="samples 256 to 299 are not finite"):
            _ = broken.drawn
    short = subject(torch.zeros(10, 1), torch.zeros(10, 1), rows[:280], count=300)  # an index beyond its rows
    with pytest.raises(ReverieError, match="failed while drawing sample 256 of 300"):
        _ = short.drawn


def test_moments_are_kept_by_content_and_made_again_where_damaged(tmp_path: Any) -> None:
    one = subject(torch.arange(10.0)[:, None], torch.zeros(0, 1), torch.zeros(20, 1))
    first = module.training_moments(one.dataset, one.features, tmp_path)
    (file,) = tmp_path.rglob("moments.safetensors")
    one.dataset.train = torch.zeros(10, 1)  # the same hash: not read again
    assert module.training_moments(one.dataset, one.features, tmp_path).mean == first.mean == 4.5
    file.write_bytes(b"x")
    assert module.training_moments(one.dataset, one.features, tmp_path).mean == 0.0
    one.dataset.rows_hash = "1" * 64
    one.dataset.train = torch.ones(10, 1)
    assert module.training_moments(one.dataset, one.features, tmp_path).mean == 1.0
