"""Guidance against closed forms: Gaussian data, whose denoiser, posteriors and tilted densities are known exactly."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from reverie.core.batch import Condition
from reverie.core.capabilities import Change, Denoises, Path
from reverie.core.errors import RequestError, ReverieError
from reverie.core.noise import KeyedNoise
from reverie.core.space import Space
from reverie.maths.operators import Mask
from reverie.maths.paths import CosineBetas, LinearBetas, Straight, per_row
from reverie.maths.posteriors import Dirac, GaussianData, GaussianMixtureData, LearnedStep
from reverie.maths.times import time_grid
from reverie.samplers.ddim import DDIM
from reverie.samplers.ddpm import Ancestral
from reverie.samplers.edm import EDM
from reverie.samplers.guidance.autoguidance import Autoguidance
from reverie.samplers.guidance.classifier import Classifier
from reverie.samplers.guidance.classifier_free import ClassifierFree
from reverie.samplers.guidance.clip import Clip, clipped
from reverie.samplers.guidance.ctrl_x import CtrlX, transferred
from reverie.samplers.guidance.dps import DPS
from reverie.samplers.guidance.free_control import principal_axes, structure_energy
from reverie.samplers.guidance.interval import Interval
from reverie.samplers.guidance.moments import MomentMatching
from reverie.samplers.guidance.repaint import RePaint, renoised, there_and_back
from reverie.samplers.heun import Heun
from reverie.samplers.integrate import integrate

PATHS: dict[str, Path] = {"ddpm": LinearBetas(), "straight": Straight()}
MEAN = torch.tensor([0.5, -0.3, 0.2], dtype=torch.float64)
C = torch.tensor([[1.0, 0.8, -0.3], [0.8, 1.0, 0.0], [-0.3, 0.0, 0.5]], dtype=torch.float64)


def exact(path: Path = PATHS["straight"], mean: Tensor = MEAN, covariance: Tensor = C) -> GaussianData:
    return GaussianData(path, mean, covariance)


def start(count: int) -> tuple[Tensor, KeyedNoise]:
    noise = KeyedNoise(0, torch.arange(count), "test")
    return noise.normal(3).double(), noise


class Sum:
    """The linear operator that sees x_0 + x_1 and x_2 - x_0."""

    a = torch.tensor([[1.0, 1.0, 0.0], [-1.0, 0.0, 1.0]], dtype=torch.float64)

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.a.T

    def adjoint(self, y: Tensor) -> Tensor:
        return y @ self.a

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        return y @ torch.linalg.pinv(self.a).T


def conditioned(mean: Tensor, covariance: Tensor, a: Tensor, y: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of a Gaussian x, given y = a x + noise."""
    gain = covariance @ a.T @ torch.linalg.inv(a @ covariance @ a.T + noise**2 * torch.eye(len(a)).double())
    return mean + gain @ (y - a @ mean), covariance - gain @ a @ covariance


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())
def test_moment_matching_is_bayes_rule_on_gaussian_data(path: Path) -> None:
    y = torch.tensor([1.0, -0.5], dtype=torch.float64)
    t = torch.full((64,), 0.4, dtype=torch.float64)
    model, x_t = exact(path), start(64)[0]
    posterior = model.denoise(x_t, t)
    guided = MomentMatching(model, Sum(), y.expand(64, 2), noise=0.3, iterations=2).denoise(x_t, t).mean
    for row in range(3):
        wanted, _ = conditioned(posterior.mean[row], posterior.covariance[row], Sum.a, y, 0.3)
        assert torch.allclose(guided[row], wanted, atol=1e-6)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())
def test_samples_of_moment_matching_have_the_exact_posterior(path: Path) -> None:
    y = torch.tensor([1.0, -0.5], dtype=torch.float64)
    x_1, noise = start(1500)
    model = MomentMatching(exact(path), Sum(), y.expand(1500, 2), noise=0.3, iterations=2)
    x = integrate(model, Heun(), x_1, time_grid(30), noise)
    mean, covariance = conditioned(MEAN, C, Sum.a, y, 0.3)
    assert torch.allclose(x.mean(0), mean, atol=0.06)
    assert torch.allclose(torch.cov(x.T), covariance, atol=0.06)


def test_inpainting_by_moments_has_the_exact_posterior_and_repaint_comes_near_it() -> None:
    mask = Mask(torch.tensor([True, False, False]))
    seen = torch.tensor([2.0, 0.0, 0.0], dtype=torch.float64)
    mean, covariance = conditioned(MEAN, C, torch.eye(3).double()[:1], seen[:1], 0.0)
    x_1, noise = start(1500)
    rows = seen.expand(1500, 3)
    guided = MomentMatching(exact(), mask, rows, noise=0.01, iterations=1)
    x = integrate(guided, Heun(), x_1, time_grid(40), noise)
    assert torch.allclose(x.mean(0), mean, atol=0.06)
    assert torch.allclose(torch.cov(x.T), covariance, atol=0.06)

    def off(resamplings: int) -> float:
        times = there_and_back(time_grid(20), 4, resamplings)
        x = integrate(exact(), RePaint(DDIM(1.0), mask, rows), x_1, times, noise)
        assert torch.equal(x[:, 0], rows[:, 0]), "what is known is kept to the bit"
        return float((x.mean(0) - mean)[1].abs())

    repainted = RePaint(EDM(churn=1.0), mask, rows)
    back, forth = torch.full((1500,), 0.5).double(), torch.full((1500,), 0.6).double()
    _, state = repainted.step(exact(), x_1, back, forth, None, noise, repainted.init(x_1, 50))
    assert [int(s) for s in state] == [50, 50], "how many steps there are is remembered over a jump"

    assert off(1) > 0.2, "replacing alone leaves the parts strangers"
    assert off(8) < 0.4 * off(1)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())
def test_rows_are_taken_up_again_to_their_own_noise_level(path: Path) -> None:
    _, noise = start(20000)
    t, s = torch.full((20000,), 0.3).double(), torch.full((20000,), 0.5).double()
    (alpha_t, sigma_t), (alpha_s, sigma_s) = path(t[:1]), path(s[:1])
    x_s = renoised(path, alpha_t * 2 + sigma_t * noise.normal(1).double(), t, s, noise)
    assert torch.allclose(x_s.mean(), alpha_s * 2, atol=0.02)
    assert torch.allclose(x_s.std(), sigma_s, rtol=0.02)


def test_times_go_there_and_back() -> None:
    assert there_and_back([4, 3, 2, 1, 0], 2, 2) == [4, 3, 2, 4, 3, 2, 1, 0, 2, 1, 0]
    assert there_and_back([4, 3, 2, 1, 0], 3, 1) == [4, 3, 2, 1, 0]


def test_dps_goes_down_the_gradient_of_the_misfit() -> None:
    model, (x_t, noise) = exact(), start(5)
    t, s = torch.full((5,), 0.5).double(), torch.full((5,), 0.4).double()
    y = torch.zeros(5, 2).double()
    plain, _ = DDIM().step(model, x_t, t, s, None, noise, ())
    guided, _ = DPS(DDIM(), Sum(), y, scale=0.7).step(model, x_t, t, s, None, noise, ())
    # E[x_0 | x_t] is m + J (x_t - alpha m), so the gradient of the misfit's length is J' A' r / |r|.
    jacobian = 0.5 * C @ torch.linalg.inv(0.25 * C + 0.25 * torch.eye(3).double())
    r = Sum()(model.denoise(x_t, t).mean) - y
    assert torch.allclose(plain - guided, 0.7 * (r / r.norm(dim=1, keepdim=True)) @ Sum.a @ jacobian)


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())
def test_a_linear_classifier_moves_the_mean_of_gaussian_data(path: Path, scale: float) -> None:
    # log p(c | x_0) = w x_0 + const: p(x_0) exp(s w x_0) is a Gaussian around m + s C w, and log p(c | x_t) is
    # w E[x_0 | x_t] + const, with the covariance of x_0 given x_t in the constant.
    w = torch.tensor([0.3, -0.2, 0.4], dtype=torch.float64)
    x_1, noise = start(1500)
    guided = Classifier(exact(path), lambda x, t: x @ w, scale, clean=True)
    x = integrate(guided, Heun(), x_1, time_grid(40), noise)
    assert torch.allclose(x.mean(0), MEAN + scale * C @ w, atol=0.06)
    assert torch.allclose(torch.cov(x.T), C, atol=0.06)


def test_a_classifier_of_noisy_rows_is_bayes_rule() -> None:
    # Two Gaussian classes: with p(c | x_t) exact, guidance 1 turns the mixture's denoiser into the class's own.
    path, t = Straight(), torch.full((50,), 0.6, dtype=torch.float64)
    classes = [exact(path, MEAN), exact(path, -2 * MEAN)]
    alpha_t, sigma_t = path(t[:1])
    marginal = alpha_t**2 * C + sigma_t**2 * torch.eye(3).double()

    def log_probability(x_t: Tensor, t: Tensor) -> Tensor:
        logits = [
            torch.distributions.MultivariateNormal(alpha_t * m, marginal).log_prob(x_t) for m in (MEAN, -2 * MEAN)
        ]
        return torch.log_softmax(torch.stack(logits, 1), 1)[:, 0]

    class Mixture(GaussianData):
        def denoise(self, x_t: Tensor, t: Tensor, condition: object = None) -> Dirac:  # type: ignore[override]
            share = per_row(log_probability(x_t, t).exp(), x_t)
            return Dirac(share * classes[0].denoise(x_t, t).mean + (1 - share) * classes[1].denoise(x_t, t).mean)

    x_t = start(50)[0]
    guided = Classifier(Mixture(path, MEAN, C), log_probability, 1.0).denoise(x_t, t).mean
    assert torch.allclose(guided, classes[0].denoise(x_t, t).mean)


def test_autoguidance_and_the_interval() -> None:
    model, bad = exact(), exact(covariance=C + 0.5 * torch.eye(3).double())
    x_t = start(6)[0]
    t = torch.tensor([0.1, 0.2, 0.4, 0.6, 0.8, 0.9], dtype=torch.float64)
    plain = model.denoise(x_t, t).mean
    assert torch.allclose(Autoguidance(model, model, 3.0).denoise(x_t, t).mean, plain), "with itself it is itself"
    assert torch.equal(Autoguidance(model, bad, 1.0).denoise(x_t, t).mean, plain)
    guided = Autoguidance(model, bad, 2.0)
    found = Interval(model, guided, 0.2, 0.6).denoise(x_t, t).mean
    wanted = 2 * plain - bad.denoise(x_t, t).mean
    assert torch.equal(found[[0, 4, 5]], plain[[0, 4, 5]]), "outside it is the plain model"
    assert torch.allclose(found[1:4], wanted[1:4]), "the ends belong to the interval"
    for message, make in {
        "same path": lambda: Autoguidance(model, exact(PATHS["ddpm"]), 2.0),
        "same rows": lambda: Autoguidance(model, exact(mean=MEAN[:2], covariance=C[:2, :2]), 2.0),
        "empty": lambda: Interval(model, guided, 0.6, 0.2),
    }.items():
        with pytest.raises(RequestError, match=message):
            make()


class Labelled(GaussianData):
    """Its mean follows the label."""

    def denoise(self, x_t: Tensor, t: Tensor, condition: object = None) -> Dirac:  # type: ignore[override]
        assert isinstance(condition, Condition)
        assert condition.label is not None
        return Dirac(super().denoise(x_t, t).mean + per_row(condition.label.clamp_min(0), x_t))


def test_what_blows_up_is_named() -> None:
    model = Labelled(PATHS["straight"], MEAN, C)
    (x_t, noise), t = start(4), torch.full((4,), 0.5, dtype=torch.float64)
    condition = Condition(label=torch.ones(4, dtype=torch.int64))
    found = ClassifierFree(model, 5.0).denoise(x_t, t, condition).mean
    assert torch.allclose(found, model.denoise(x_t, t, condition.without_label()).mean + 5)
    with pytest.raises(ReverieError, match=r"guidance = 1e\+06 blows up at t = 0.5"):
        ClassifierFree(model, 1e6).denoise(x_t, t, condition)
    with pytest.raises(ReverieError, match=r"scale = 1e\+09 blows up at step 2 of 4 \(t = 0.75\): give less"):
        integrate(exact(), DPS(DDIM(), Sum(), torch.zeros(4, 2).double(), 1e9), x_t, time_grid(4), noise)
    with pytest.raises(ReverieError, match="scale = 2 blows up"):
        Classifier(exact(), lambda x, t: (x - x).sqrt().sum(1), 2.0).denoise(x_t, t)


def test_features_are_compared_and_carried_over() -> None:
    f = torch.randn(6, 5, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    f[:, 1] += 3 * f[:, 0]
    axes = principal_axes(f, 5)
    coordinates = (axes.basis.T @ (f - axes.mean)).transpose(0, 1).flatten(1)
    assert torch.allclose(torch.cov(coordinates, correction=0), torch.eye(5).double(), atol=1e-8)
    assert float(structure_energy(f, f, axes).abs().max()) == 0
    moved = f + axes.basis[:, :1] * 0.1
    assert torch.allclose(
        structure_energy(moved, f, axes), ((axes.basis.T @ axes.basis[:, 0] * 0.1) ** 2).mean().expand(6)
    )
    # To constant features there is nothing to carry but the constant.
    flat = torch.full((6, 5, 40), 2.0, dtype=torch.float64)
    assert torch.allclose(transferred(f, flat), flat, atol=1e-6)
    # Of two regions, each takes the look of its like.
    region = torch.arange(40) < 20
    structure = torch.where(region, 1.0, -1.0).expand(1, 64, 40).double() * 20
    like = torch.where(region.flip(0), 7.0, 3.0).expand(1, 64, 40).double()
    assert torch.allclose(transferred(structure, like), torch.where(region, 7.0, 3.0).double(), atol=0.01)


class Sure(GaussianData):
    """The exact denoiser, with a variance of its next step that tells the rows apart."""

    def denoise(self, x_t: Tensor, t: Tensor, condition: object = None) -> LearnedStep:
        mean = super().denoise(x_t, t, condition).mean
        return LearnedStep(mean, torch.sigmoid(x_t))

    @contextmanager
    def steered(self, change: Change) -> Iterator[None]:
        yield


def test_guidance_keeps_the_variance_of_a_learned_step() -> None:
    """That of the plain model at these rows, whatever becomes of the mean."""
    path = PATHS["ddpm"]
    model, bad = Sure(path, MEAN, C), exact(path, MEAN, 2 * C)
    x_t, t = start(4)[0], torch.tensor([0.2, 0.4, 0.6, 0.8]).double()
    slope = Classifier(model, lambda x, t: -x.square().sum(1), 0.3)
    for guided in (
        Autoguidance(model, bad, 2.0),
        slope,
        Interval(model, slope, 0.3, 0.7),
        CtrlX(model, model, x_t + 1, x_t + 2, x_t, (), ()),
        Clip(slope),
        MomentMatching(model, Sum(), Sum()(x_t)),
    ):
        found = guided.denoise(x_t, t)
        assert isinstance(found, LearnedStep), type(guided).__name__
        assert torch.equal(found.step_variance, torch.sigmoid(x_t)), type(guided).__name__
        assert not found.step_variance.requires_grad


def test_dps_steps_as_its_solver_does_with_a_learned_variance() -> None:
    x_t, noise = start(4)
    t, s = (torch.full((4,), time).double() for time in (0.5, 0.4))
    model, solver = Sure(PATHS["ddpm"], MEAN, C), Ancestral("learned")
    plain, _ = solver.step(model, x_t, t, s, None, noise, ())
    again = KeyedNoise(0, torch.arange(4), "test")
    again.normal(3)
    steered, _ = DPS(solver, Sum(), Sum()(x_t), 0.0).step(model, x_t, t, s, None, again, ())
    assert torch.equal(steered, plain)


@pytest.mark.parametrize("until", [1.0, 0.8, 0.0])
def test_ctrl_x_takes_features_at_times_above_its_bound_alone(until: float) -> None:
    """At 1 none, not even in the first step, which is at t = 1; at 0 in all."""

    class Heard(GaussianData):
        """Its one feature map is x_t itself, which is also its estimate."""

        change: Change | None = None

        @contextmanager
        def steered(self, change: Change) -> Iterator[None]:
            self.change = change
            yield

        def denoise(self, x_t: Tensor, t: Tensor, condition: object = None) -> Dirac:
            assert self.change is not None
            return Dirac(self.change(0, x_t[:, :, None])[:, :, 0])

    model, (x, _) = Heard(PATHS["straight"], MEAN, C), start(3)
    guided = CtrlX(model, model, x + 1, x + 2, x + 3, (0,), (), structure_until=until)
    for time in (1.0, 0.9, 0.8, 0.3):
        t = torch.full((3,), time, dtype=torch.float64)
        taken = (1 - t[:, None]) * (x + 1) + t[:, None] * (x + 3)
        assert torch.equal(guided.denoise(x, t).mean, taken if time > until else x)


def test_clipping_bounds_what_a_small_error_of_the_noise_makes_of_points_and_changes_no_right_estimate() -> None:
    """Improved DDPM's path ends at alpha = 5e-5: an error of 0.02 in the noise is one of 400 in x_0."""
    path = CosineBetas()
    points = torch.tensor([[0.9, 0.0], [-0.9, 0.3], [0.2, -0.7]]).double().repeat(20, 1)

    class Wrong(GaussianMixtureData):
        """Each row is one of three points; the noise that is found is off by 0.02, and never beyond what noise is."""

        def denoise(self, x_t: Tensor, t: Tensor, condition: object = None) -> Dirac:  # type: ignore[override]
            alpha_t, sigma_t = (per_row(a, x_t) for a in self.path(t))
            eps = (x_t - alpha_t * super().denoise(x_t, t).mean) / sigma_t
            return Dirac((x_t - sigma_t * (eps + 0.02).clamp(-4, 4)) / alpha_t)

    def drawn(model: Denoises) -> Tensor:
        noise = KeyedNoise(0, torch.arange(400), "test")
        return integrate(model, DDIM(), noise.normal(2).double(), time_grid(50, 1000), noise)

    thin = torch.eye(2).double().expand(3, 2, 2) * 1e-4
    shares, space = torch.full((3,), 1 / 3).double(), Space((2,), within=(-1.0, 1.0))
    right, wrong = (kind(path, shares, points[:3], thin) for kind in (GaussianMixtureData, Wrong))
    assert drawn(wrong).abs().max() > 100
    assert torch.cdist(drawn(clipped(wrong, space)), points[:3]).amin(1).max() < 0.1
    assert torch.allclose(drawn(clipped(right, space)), drawn(right), atol=1e-6)
    assert clipped(wrong, Space((2,))) is wrong
    assert clipped(wrong, Space((1, 2, 2), depth=256)) == Clip(wrong, -1.0, 1.0)
