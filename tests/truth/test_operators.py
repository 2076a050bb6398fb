"""Operators against the definitions of linear, adjoint and pseudo-inverse."""

import pytest
import torch
from torch import Tensor

from reverie.core.errors import RequestError
from reverie.core.space import Space
from reverie.maths.operators import Blur, Function, Grey, Mask, Operator, blur, check_linear, downsample, grey

SPACE = Space((3, 8, 12))
KNOWN = torch.rand(8, 12, generator=torch.Generator().manual_seed(1)) < 0.6
OPERATORS: dict[str, Operator] = {
    "mask": Mask(KNOWN),
    "downsample": downsample(SPACE, 4),
    "grey": grey(SPACE),
    "blur": blur(SPACE, 1.5),
    "function": Function(lambda x: x[..., 1:] - x[..., :-1] + 0.5 * x.flip(-2)[..., 1:], SPACE),
}


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", OPERATORS)
def test_adjoint_and_pseudo_inverse(name: str) -> None:
    a = OPERATORS[name]
    x = rows(4, 3, 8, 12)
    y = a(x)
    z = rows(*y.shape, seed=1)
    assert torch.allclose((y * z).flatten(1).sum(1), (x * a.adjoint(z)).flatten(1).sum(1)), "<Ax, z> = <x, A'z>"
    assert torch.allclose(a(a.pseudo_inverse(y)), y, atol=1e-5), "A A+ A = A"
    once = a.pseudo_inverse(z)
    assert torch.allclose(a.pseudo_inverse(a(once)), once, atol=1e-5), "A+ A A+ = A+"
    projected = a.pseudo_inverse(a(x))
    assert torch.allclose((projected * (x - projected)).flatten(1).sum(1), torch.zeros(4).double(), atol=1e-4), (
        "A+ A is an orthogonal projection"
    )
    check_linear(a, SPACE)


def test_operators_that_see_nothing_or_more_than_one_image_are_refused() -> None:
    with pytest.raises(RequestError, match="sees nothing"):
        check_linear(lambda x: 0 * x, SPACE)
    with pytest.raises(RequestError, match="mixes the images of a batch"):
        check_linear(lambda x: x.flip(0), SPACE)
    with pytest.raises(RequestError, match="mixes the images of a batch"):
        check_linear(lambda x: x - x.mean(0), SPACE)


def test_operators_that_return_no_numbers_for_each_image_are_refused() -> None:
    with pytest.raises(RequestError, match="not a row for each image"):
        check_linear(lambda x: x.mean(), SPACE)
    with pytest.raises(RequestError, match="not a row for each image"):
        check_linear(lambda x: x.sum(0), SPACE)
    with pytest.raises(RequestError, match="not finite"):
        check_linear(lambda x: x / 0, SPACE)
    with pytest.raises(RequestError, match="is random"):
        check_linear(lambda x: x * torch.rand(()), SPACE)


def test_operators_by_hand() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4)
    small = downsample(Space((1, 4, 4)), 2)
    assert small(x).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert small.adjoint(torch.ones(1, 1, 2, 2)).unique().tolist() == [0.25]
    assert torch.allclose(Grey()(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)), torch.tensor(0.299))
    blurred = Blur((9, 9), 1.0, least=0.0)
    point = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    point[0, 0, 4, 4] = 1
    seen = blurred(point)[0, 0]
    assert torch.allclose(seen[4, 5] / seen[4, 4], torch.tensor(-0.5).double().exp())
    assert torch.allclose(Blur((9, 9), 1.0)(torch.ones_like(point)), torch.ones_like(point)), "light is kept"


def test_what_is_refused() -> None:
    with pytest.raises(RequestError, match=r"factor=5 .* divides 8 and 12"):
        downsample(SPACE, 5)
    with pytest.raises(RequestError, match="sigma=1000 pixels"):
        blur(SPACE, 1000)
    with pytest.raises(RequestError, match="grey already"):
        grey(Space((1, 8, 8)))
    with pytest.raises(RequestError, match="operators are of images"):
        grey(Space((2,)))
    with pytest.raises(RequestError, match="every pixel"):
        Mask(torch.ones(4, 4, dtype=torch.bool))
    with pytest.raises(RequestError, match="no pixel"):
        Mask(torch.zeros(4, 4, dtype=torch.bool))
    for crooked in (torch.sign, torch.square, lambda x: x + 1):
        with pytest.raises(RequestError, match="not linear"):
            Function(crooked, SPACE)
