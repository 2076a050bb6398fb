"""One test over every recipe found: a system is tested the moment its file exists.

Each is trained for a few rounds on small pictures with its own network, objective and settings.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import reverie
from reverie.core import capabilities
from reverie.core.catalog import entries, find, model_source
from reverie.core.images import to_bytes
from reverie.core.model import Memory, Model
from reverie.core.noise import KeyedNoise
from reverie.core.player import Progress
from reverie.core.run import Run
from reverie.data.config import DataConfig
from reverie.data.dataset import open_data
from reverie.data.feed import Feed
from reverie.training import loop as loops
from reverie.training.build import load
from reverie.training.config import AverageConfig, TrainConfig
from reverie.training.ranks import Ranks

NAMES = [entry.name for entry in entries() if not entry.needs]
SMALL = {
    "train.batch": 8,
    "train.steps": 4,
    "train.time": None,
    "train.images": None,
    "train.grids": 0,
    "train.precision": "fp32",
    "train.average.half_life": 20,
}
CHANGES = {**SMALL, "data.size": 16}


@pytest.fixture(scope="module", params=NAMES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Run, Run]:
    """A recipe trained for four rounds at once, and trained for three, stopped, and resumed."""
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    once = reverie.train(name, "digits", out=folder / "once", changes=CHANGES, quiet=True)

    def past_half(progress: Progress) -> bool:
        return progress.round == 3

    reverie.train(name, "digits", out=folder / "twice", changes=CHANGES, quiet=True, stop=past_half)
    twice = reverie.train(name, "digits", out=folder / "twice", changes=CHANGES, quiet=True)
    return name, once, twice


def newest(run: Run) -> Path:
    return sorted(run.checkpoints.iterdir())[-1]


def test_resume_is_bit_exact(trained: tuple[str, Run, Run]) -> None:
    _, once, twice = trained
    assert [e["event"] for e in twice.journal()].count("resume") == 1
    files = sorted(file.name for file in newest(once).glob("*.safetensors"))
    assert files
    assert newest(once).name == newest(twice).name
    for file in files:
        a, b = load_file(newest(once) / file), load_file(newest(twice) / file)
        assert a.keys() == b.keys()
        for key in a:
            assert torch.equal(a[key], b[key]), f"{file}: {key}"


def test_what_is_saved_is_what_is_loaded(trained: tuple[str, Run, Run]) -> None:
    _, once, _ = trained
    saved, model = load_file(once.model_file), load(once)
    state = model.state_dict()
    for key, value in saved.items():
        assert torch.equal(state[key], value), key
    averaged = [p for module in model.averaged() for p in module.parameters()]
    means = load_file(newest(once) / "average.safetensors")
    for i, parameter in enumerate(averaged):
        assert torch.equal(means[str(i)], parameter), "sampling must use the averaged weights"


def test_samples_depend_on_their_place_alone(trained: tuple[str, Run, Run]) -> None:
    _, once, _ = trained
    model = load(once)
    asks = reverie.conditions(once.recipe.data, model.space, observes=model.view(capabilities.Observes))
    whole = reverie.sample(model, 5, seed=3, condition=asks, precision="fp32")
    parts = reverie.sample(model, 5, seed=3, condition=asks, precision="fp32", batch=2)
    other = reverie.sample(model, 5, seed=4, condition=asks, precision="fp32")
    assert whole.x.shape == (5, *model.space.shape)
    assert bool(torch.isfinite(whole.x).all())
    assert (to_bytes(whole.x).int() - to_bytes(parts.x).int()).abs().max() <= 1
    assert not torch.equal(whole.x, other.x), "another seed must give other samples"
    assert whole.labels is None or torch.equal(whole.labels, parts.labels)


def test_recipe_tells_the_capabilities_of_its_model(trained: tuple[str, Run, Run]) -> None:
    name, once, _ = trained
    model = load(once)
    has = {kind for kind, protocol in capabilities.ALL.items() if model.view(protocol) is not None}
    assert set(once.recipe.capabilities) == has, name


def test_views_keep_their_promises(trained: tuple[str, Run, Run]) -> None:
    _, once, _ = trained
    model = load(once)
    feed = Feed(open_data(DataConfig.read(once.recipe.data, "data")), 0, {})
    batch = feed.batch(0, 3)
    x, condition, noise = batch.x, batch.condition, KeyedNoise(0, batch.ids)
    if (bounds := model.view(capabilities.Bounds)) is not None:
        assert per_row(bounds.elbo(x, noise.fork("elbo"), condition))
    if (likelihood := model.view(capabilities.LogProb)) is not None:
        assert per_row(likelihood.log_prob(x, condition))
    if (decodes := model.view(capabilities.Decodes)) is not None:
        z = tuple(
            noise.integers(latent.levels, *latent.shape) if latent.levels else noise.normal(*latent.shape)
            for latent in decodes.latents
        )
        assert decodes.decode(z).shape == x.shape
    if (encodes := model.view(capabilities.Encodes)) is not None:
        z = encodes.encode(x)
        assert [tuple(part.shape[1:]) for part in z] == [latent.shape for latent in encodes.latents]
        assert all(torch.equal(a, b) for a, b in zip(z, encodes.encode(x), strict=True)), "encoding is a function"
    if (reconstructs := model.view(capabilities.Reconstructs)) is not None:
        z, log_q = reconstructs.posterior(x, noise.fork("posterior"))
        assert per_row(log_q)
        assert per_row(reconstructs.likelihood(x, z))
        assert per_row(reconstructs.log_prior(z))
    if (denoises := model.view(capabilities.Denoises)) is not None:
        assert torch.equal(denoises.leave(denoises.enter(x)), x)
        # With hardly any noise the clean image is what is seen, whatever the network says.
        t = torch.full((3,), 1e-4)
        alpha, sigma = denoises.path(t)
        shape = (-1, *[1] * (x.ndim - 1))
        x_t = alpha.view(shape) * x + sigma.view(shape) * noise.fork("t").normal(*x.shape[1:])
        assert (denoises.denoise(x_t, t, condition).mean - x).abs().max() < 0.2
    if (observes := model.view(capabilities.Observes)) is not None:
        seen = observes.observe(x, noise.fork("observe"))
        assert seen.shape == (3, model.space.maps, *x.shape[2:])
        assert torch.equal(seen, observes.observe(x, noise.fork("observe"))), "what is seen is a function of the noise"
    if (tags := model.view(capabilities.Tags)) is not None:
        shares = tags.tag(condition.image, noise.fork("tag"), 2)
        assert shares.shape == x.shape
        assert bool(((shares >= 0) & (shares <= 1)).all())
    if (classifies := model.view(capabilities.Classifies)) is not None:
        assert classifies.class_logits(x).shape == (len(x), model.data_space.classes)
    if (criticises := model.view(capabilities.Criticises)) is not None:
        assert per_row(criticises.score(x, condition))


def per_row(values: torch.Tensor) -> bool:
    return values.shape == (3,) and bool(torch.isfinite(values).all())


@pytest.mark.parametrize("name", NAMES)
def test_each_player_moves_its_own_weights_and_no_others(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a short training on points; `network: auto` makes every model work on them."""
    dataset = open_data(DataConfig(source="ring", condition=find(name).body["data"].get("condition", "auto")))
    model = reverie.create(name, dataset.space, changes={"train.steps": 4, "train.time": None, "train.images": None})
    config = TrainConfig(batch=8, steps=4, average=AverageConfig(half_life=0))
    loop = loops.Loop(model, Feed(dataset, 0, model.draws()), config, Ranks(torch.device("cpu")))
    touched: dict[str, set[int]] = {}

    def step(seat: loops.Seat, norm: torch.Tensor) -> None:
        others = [p for p in model.parameters() if all(p is not w for w in seat.weights)]
        assert all(p.grad is None or not p.requires_grad for p in others), "a gradient for another player's weights"
        hit = touched.setdefault(seat.player.name, set())
        hit |= {id(p) for p in seat.weights if p.grad is not None and bool(p.grad.ne(0).any())}
        original(seat, norm)
        for p in seat.weights:
            p.grad = None

    original = loop._step
    monkeypatch.setattr(loop, "_step", step)
    for _ in range(4):
        loop.play_round()
    for seat in loop.seats:
        names = {id(p): n for n, p in model.named_parameters()}
        never = [names[id(w)] for w in seat.weights if id(w) not in touched[seat.player.name]]
        assert not never, f"{seat.player.name}: no gradient ever reached {never}"
    memory = [n for n, m in model.named_modules() if isinstance(m, Memory)]
    assert all(
        any(n.startswith(m) for m in memory) for n, b in model.named_buffers() if not torch.isfinite(b.float()).all()
    )


def test_model_files_define_one_model() -> None:
    for entry in entries():
        source = model_source(entry.body["model"]["name"])
        assert issubclass(source.model, Model)
        assert all((entry.summary, entry.papers, entry.capabilities)), f"{entry.name}: the header is incomplete"
