"""FreeControl on a network whose features are known: the slope of its energies, and whose appearance it looks at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Change
from reverie.core.space import Space
from reverie.maths.paths import Cosine, per_row
from reverie.maths.posteriors import Dirac, LearnedStep
from reverie.samplers.guidance import free_control
from reverie.samplers.guidance.free_control import FreeControl

SHAPE = (2, 3, 3)
MIX = torch.tensor([[1.0, 0.5], [-0.3, 0.8]], dtype=torch.float64)


class Toy:
    """A denoiser with one feature map, f = tanh(M x_t) at each place, and E[x_0 | x_t] = x_t / 2."""

    def __init__(self) -> None:
        self.path = Cosine()
        self.space = Space(SHAPE)
        self._changes: list[Change] = []

    @contextmanager
    def steered(self, change: Change) -> Iterator[None]:
        self._changes.append(change)
        yield
        self._changes.pop()

    def features(self, x_t: Tensor) -> Tensor:
        return torch.tanh(MIX.to(x_t) @ x_t.flatten(2))

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Dirac:
        for change in self._changes:
            change(0, self.features(x_t))
        return Dirac(x_t / 2)

    def enter(self, x: Tensor) -> Tensor:
        return x

    def leave(self, z: Tensor) -> Tensor:
        return z


def drawn(rows: int, seed: int) -> Tensor:
    return torch.randn(rows, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def control(**changes: object) -> FreeControl:
    toy = Toy()
    given = {"picture": drawn(3, 1), "seeds": drawn(8, 2), "noise": drawn(3, 3), "maps": (0,), "axes": 2}
    return FreeControl(toy, steers=toy, **(given | changes))


def energies(guide: FreeControl, x_t: Tensor, t: Tensor, sibling: Tensor) -> tuple[Tensor, Tensor]:
    """E_s and E_a as the equations have them, written out."""
    toy = guide.steers
    alpha_t, sigma_t = (per_row(a, x_t) for a in toy.path(t))
    noise = guide.noise[torch.arange(8) % 3].flip(-1)
    seeds = toy.features(alpha_t[:1] * guide.seeds + sigma_t[:1] * noise)
    mean, basis, spread = free_control.principal_axes(seeds, 2)
    wanted = toy.features(alpha_t * guide.picture + sigma_t * guide.noise)
    f, like = toy.features(x_t), toy.features(sibling)
    size = x_t[0].numel()
    structure = (torch.einsum("ck,ncp->nkp", basis, f - wanted) ** 2).mean((1, 2))

    def look(f: Tensor) -> Tensor:
        marks = torch.sigmoid(torch.einsum("ck,ncp->nkp", basis, f - mean))
        return torch.einsum("nkp,ncp->nkc", marks, f) / marks.sum(2)[..., None]

    appearance = ((look(f) - look(like)) ** 2).mean((1, 2)) / spread
    return size / 2 * structure, size / 2 * appearance


@pytest.mark.parametrize(("structure", "appearance"), [(1.0, 0.0), (0.5, 0.0), (0.0, 0.7), (0.6, 0.4)])
def test_the_noise_is_moved_up_the_energys_slope(structure: float, appearance: float) -> None:
    r"""eps_hat = eps - s g with g = -alpha_t sigma_t grad E: in noise, in E[x_0 | x_t], and downhill."""
    t = torch.full((3,), 0.4, dtype=torch.float64)
    x_t, sibling = drawn(3, 4).requires_grad_(), drawn(3, 5)
    guide = control(structure=structure, appearance=appearance, siblings={0.4: sibling})
    of_structure, of_appearance = energies(guide, x_t, t, sibling)
    (slope,) = torch.autograd.grad((structure * of_structure + appearance * of_appearance).sum(), x_t)
    x_t = x_t.detach()
    alpha_t, sigma_t = (per_row(a, x_t) for a in guide.path(t))
    found = guide.denoise(x_t, t).mean
    eps, eps_hat = ((x_t - alpha_t * x_0) / sigma_t for x_0 in (x_t / 2, found))
    assert float(slope.abs().max()) > 0.01
    torch.testing.assert_close(eps_hat, eps + alpha_t * sigma_t * slope)
    after = energies(guide, x_t + 0.01 * (found - x_t / 2), t, sibling)
    before = energies(guide, x_t, t, sibling)
    assert structure * after[0].sum() + appearance * after[1].sum() < (
        structure * before[0].sum() + appearance * before[1].sum()
    )


def test_the_variance_of_a_learned_step_stays() -> None:
    class Sure(Toy):
        def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> LearnedStep:
            return LearnedStep(super().denoise(x_t, t).mean, torch.sigmoid(x_t))

    x_t, t = drawn(3, 4), torch.full((3,), 0.4, dtype=torch.float64)
    found = replace(control(), model=(sure := Sure()), steers=sure).denoise(x_t, t)
    assert isinstance(found, LearnedStep)
    assert torch.equal(found.step_variance, torch.sigmoid(x_t))


def test_each_step_looks_at_the_sibling_of_its_own_time() -> None:
    """Of 29 steps, some times differ in their sixth digit between float64 and the float32 of rows."""
    times = [1 - i / 29 for i in range(29)]
    siblings = {t: drawn(3, 10 + i).float() for i, t in enumerate(times)}
    single = {"picture": drawn(3, 1).float(), "seeds": drawn(8, 2).float(), "noise": drawn(3, 3).float()}
    x_t = drawn(3, 4).float()
    for t in times:
        rows = torch.full((3,), t)
        found, wanted = (
            control(structure=0.0, appearance=1.0, siblings=known, **single).denoise(x_t, rows).mean
            for known in (siblings, {t: siblings[t]})
        )
        assert torch.equal(found, wanted)
    assert any(round(t, 6) != round(float(torch.tensor(t)), 6) for t in times)
