"""What can be switched on in any GAN, on all of them: against slopes taken by hand, and their own losses without it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from reverie.core import model as core
from reverie.core.batch import Batch, Condition
from reverie.core.choice import Choice
from reverie.core.errors import RequestError
from reverie.core.model import Model
from reverie.core.noise import KeyedNoise
from reverie.core.player import Progress, Turn
from reverie.core.space import Space
from reverie.models.gan import acgan, began, bigan, can, cogan, ebgan, gan, infogan, ssgan, tags
from reverie.nn import tricks
from reverie.nn.orthogonal import overlap
from reverie.training.build import create

SPACE, IMAGE = Space((3,), classes=4), Space((1, 8, 8), classes=4)
MLP, CODER = Choice(name="mlp", options={"width": 16}), Choice(name="mlp", options={"hidden": [16]})
PAIR = {"generator": MLP, "discriminator": MLP}
GANS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "gan": (gan.GAN, gan.Config, PAIR),
    "acgan": (acgan.ACGAN, acgan.Config, PAIR),
    "can": (can.CAN, can.Config, PAIR),
    "infogan": (infogan.InfoGAN, infogan.Config, PAIR),
    "cogan": (cogan.CoGAN, cogan.Config, PAIR),
    "bigan": (bigan.BiGAN, bigan.Config, {**PAIR, "encoder": CODER}),
    "ssgan": (ssgan.SSGAN, ssgan.Config, PAIR),
    "ebgan": (ebgan.EBGAN, ebgan.Config, {"generator": MLP, "encoder": CODER, "decoder": CODER}),
    "began": (began.BEGAN, began.Config, {"generator": CODER, "encoder": CODER, "decoder": CODER}),
    "tags": (tags.TagGAN, tags.Config, {**PAIR, "encoder": CODER}),
}
LOGITS = [name for name in GANS if name not in ("ebgan", "began")]
NORMAL = [name for name in GANS if name not in ("ssgan", "began")]
TAGS = Space((3,), picture=(2,))


def built(name: str, space: Space = SPACE, **changes: object) -> Model:
    torch.manual_seed(0)
    model, config, networks = GANS[name]
    space = TAGS if name == "tags" else space
    made: Model = model(config(**{"latent": 5, **networks, **changes}), space, {})
    made.on_start(type("Data", (), {"first": staticmethod(lambda count: turn(space).batch)}))
    return made


def turn(space: Space = SPACE, progress: Progress | None = None) -> Turn:
    ids = torch.arange(8)
    rows = [KeyedNoise(seed, ids, "x").normal(*space.shape) for seed in (1, 2)]
    seen = KeyedNoise(3, ids, "picture").normal(2)  # what cgan-tags draws for; the others look at labels alone
    one, two = (Batch(x, Condition(label=ids % 4, image=seen), ids, ids) for x in rows)
    return Turn(replace(one, parts={"other": two}), KeyedNoise(0, ids), progress or Progress())


def terms(model: Model, t: Turn) -> dict[str, Tensor]:
    return model.players()[0].loss(t).terms


@pytest.mark.parametrize("name", GANS)
def test_r1_is_half_the_squared_slope_of_the_score(name: str) -> None:
    weight = 0.3
    model, plain, t = built(name, penalties={"r1": weight}), built(name), turn()
    found, without = terms(model, t), terms(plain, turn())
    x = t.batch.x.clone().requires_grad_()

    def half(score: Tensor, points: Tensor) -> float:
        return weight * 0.5 * torch.autograd.grad(score.sum(), points)[0].square().sum(1).mean().item()

    if name == "cogan":  # a penalty for each domain's discriminator; the other domain's rows are negatives
        y = (-t.batch.parts["other"].x).requires_grad_()
        expected = {"r1 1": half(model.judge(x, 0), x), "r1 2": half(model.judge(y, 1), y)}
    elif name == "bigan":  # of the pair: in x and in its code
        pair = torch.cat([x, model.encoder(x, None)], dim=1).detach().requires_grad_()
        expected = {"r1": half(torch.stack(model.score_pair(pair[:, :3], pair[:, 3:])).sum(0), pair)}
    else:
        expected = {"r1": half(model.score(x, t.batch.condition), x)}
    assert {k: found[k].item() for k in expected} == pytest.approx(expected, rel=1e-4)
    assert {k: v.item() for k, v in found.items() if k not in expected} == pytest.approx(
        {k: v.item() for k, v in without.items()}, rel=1e-5
    ), "all else is as it was"
    assert not model.players()[0].compile


@pytest.mark.parametrize("name", GANS)
def test_clipping_bounds_what_judges_and_nothing_else(name: str) -> None:
    model = built(name, clip=0.01)
    player = model.players()[0]
    others = [p.detach().clone() for p in model.players()[1].modules[0].parameters()]
    with torch.no_grad():
        player.after_turn(player.loss(turn()))
    judges = {"acgan": model, "can": model, "infogan": model}.get(name)
    modules = [judges.discriminator] if judges is not None else player.modules
    assert all(p.abs().max() <= 0.01 for module in modules for p in module.parameters())
    assert all(torch.equal(p, q) for p, q in zip(model.players()[1].modules[0].parameters(), others, strict=True))


@pytest.mark.parametrize("name", GANS)
def test_noise_on_what_is_seen_falls_to_nothing(name: str) -> None:
    noisy, plain = built(name, input_noise=0.5), built(name)
    start, end = turn(), turn(progress=Progress(fraction=1.0))
    quiet = {k: v.item() for k, v in terms(plain, turn()).items()}
    assert {k: v.item() for k, v in terms(noisy, end).items()} == pytest.approx(quiet)
    assert {k: v.item() for k, v in terms(noisy, start).items()} != pytest.approx(quiet)
    side = noisy.players()[1]
    mine = {k: v.item() for k, v in side.loss(turn(progress=Progress(fraction=1.0))).terms.items()}
    assert mine != pytest.approx({k: v.item() for k, v in side.loss(turn()).terms.items()}), "G is judged by it too"


@pytest.mark.parametrize("name", [name for name in GANS if name != "tags"])
def test_augmentation_follows_how_sure_the_discriminator_is(name: str) -> None:
    """The probability moves by rows / ramp, up where D is surer than the target."""
    model = built(name, IMAGE, augment={"target": -0.999, "ramp": 80.0})
    player = model.players()[0]
    with torch.no_grad():
        loss = player.loss(turn(IMAGE))
        player.after_turn(loss)
    rows = 16 if name == "cogan" else 8
    expected = rows / 80 if 2 * loss.figures["told apart"] - 1 > -0.999 else 0.0
    assert model.tricks.augmentation.item() == pytest.approx(expected)
    assert math.isfinite(sum(term.item() for term in terms(model, turn(IMAGE)).values()))


def test_recipes_take_them_from_the_command_line() -> None:
    model = create("acgan", IMAGE, changes=["model.augment={}", "model.penalties={r1: 0.1}"])
    assert model.config.augment is not None
    assert model.config.penalties == {"r1": 0.1}


def sides(model: Model, t: Turn) -> list[tuple[Tensor, Tensor]]:
    """The logits that each game is about, of real rows and of generated ones."""
    pairs: list[tuple[Tensor, Tensor]] = []
    before = model.tricks.labelled
    model.tricks.labelled = lambda real, fake, turn: pairs.append((real, fake)) or before(real, fake, turn)
    model.players()[0].loss(t)
    model.tricks.labelled = before
    return pairs


@pytest.mark.parametrize("name", LOGITS)
def test_real_rows_are_called_real_with_probability_one_less_the_smoothing(name: str) -> None:
    """-(1 - s) log D - s log(1 - D) of real rows is softplus(-r) + s r; generated ones stay as they are."""
    game = {} if name == "ssgan" else {"objective": "non-saturating"}
    plain, smooth = built(name, **game), built(name, smoothing=0.3, **game)
    found, without = terms(smooth, turn()), terms(plain, turn())
    pairs = sides(plain, turn())
    assert len(pairs) == (2 if name == "cogan" else 1)
    games = [key for key in found if key in ("adversarial", "real", "domain 1", "domain 2")]
    assert len(games) == len(pairs)
    for key, (real, _) in zip(games, pairs, strict=True):
        assert (found[key] - without[key]).item() == pytest.approx(0.3 * real.mean().item(), abs=1e-6)
    rest = found.keys() - set(games)
    assert {k: found[k].item() for k in rest} == pytest.approx({k: without[k].item() for k in rest})


@pytest.mark.parametrize("name", LOGITS)
def test_labels_are_exchanged_in_a_share_of_pairs(name: str) -> None:
    """In each game a share of its own: what one domain is told wrongly, the other need not be."""
    plain, noisy, t = built(name), built(name, label_noise=0.5), turn()
    streams = ["domain 1/label noise", "domain 2/label noise"] if name == "cogan" else ["label noise"]
    exchanged = [t.noise.fork(stream).uniform() < 0.5 for stream in streams]
    assert all(0 < wrong.sum() < 8 for wrong in exchanged)
    assert not torch.equal(exchanged[0], exchanged[-1]) or name != "cogan"
    loss = {"tags": lambda r, f: softplus(f - r)}.get(name, lambda r, f: softplus(-r) + softplus(f))
    games = ("adversarial", "real", "fake", "domain 1", "domain 2")
    expected = 0.0
    for wrong, (real, fake) in zip(exchanged, sides(plain, turn()), strict=True):
        told = loss(torch.where(wrong, fake, real), torch.where(wrong, real, fake))
        expected += told.mean().item()
        assert told.mean().item() != pytest.approx(loss(real, fake).mean().item(), rel=1e-4)
    found = sum(term.item() for key, term in terms(noisy, t).items() if key in games)
    assert found == pytest.approx(expected, rel=1e-5)


def softplus(x: Tensor) -> Tensor:
    return torch.log1p(torch.exp(x))


@pytest.mark.parametrize("name", GANS)
def test_each_player_is_pulled_to_the_mean_of_its_past(name: str) -> None:
    """After one step remembered, and a move of every weight by 0.1, half of the squared distance is 0.005 a weight."""
    model = built(name, history=0.5)
    for player in model.players():
        assert player.loss(turn()).terms["history"] == 0
        assert player.after_turn is not None
        with torch.no_grad():
            player.after_turn(player.loss(turn()))
            for weight in (p for module in player.modules for p in module.parameters()):
                weight.add_(0.1)
        count = sum(p.numel() for module in player.modules for p in module.parameters())
        assert player.loss(turn()).terms["history"].item() == pytest.approx(0.005 * count, rel=1e-3)


@pytest.mark.parametrize("name", GANS)
def test_what_a_generator_may_minimise_beside_its_game(name: str) -> None:
    game = {"feature-matching": 1.0} if name == "ssgan" else {"adversarial": 1.0}
    plain, more = built(name), built(name, generator_terms={**game, "feature-matching": 2.0, "orthogonal": 0.7})
    found, without = (model.players()[1].loss(turn()).terms for model in (more, plain))
    assert found["orthogonal"].item() == pytest.approx(0.7 * overlap(plain.generator).item(), rel=1e-5)
    key = "feature-matching 2" if name == "cogan" else "feature-matching"
    x, y = matched(plain, name, turn())
    squares = (x.mean(0) - y.mean(0)).square()
    assert found[key].item() == pytest.approx(
        2.0 * (squares.mean() if name == "ssgan" else squares.sum()).item(), rel=1e-4
    )
    if name not in ("ssgan", "bigan"):
        half = built(name, generator_terms={"adversarial": 0.5}).players()[1].loss(turn()).terms
        first = next(iter(without))
        assert half[first].item() == pytest.approx(0.5 * without[first].item(), rel=1e-5)


def matched(model: Any, name: str, t: Turn) -> tuple[Tensor, Tensor]:
    """Features of real and of generated rows, by each structure's own networks."""
    z, condition = t.noise.fork("z"), t.batch.condition
    if name in ("ebgan", "began"):
        y = model.generator(z.normal(5), condition) if name == "ebgan" else model._fakes(t.noise, condition)
        return model.encoder(t.batch.x, condition), model.encoder(y, condition)
    if name == "cogan":
        enter = model.entries[1]
        x, y = -t.batch.parts["other"].x, model.pair(z.normal(5))[1]
        return model.discriminator.features(enter(x)), model.discriminator.features(enter(y))
    if name == "tags":
        seen, y = model.critic_encoder(condition.image), model._fakes(t)
        return tuple(model.discriminator.features(torch.cat([rows, seen], 1)) for rows in (t.batch.x, y))
    look = model.look if name == "bigan" else model.discriminator
    joined = {"infogan": lambda: model._draw(t.noise)[0], "ssgan": lambda: z.uniform(5)}.get(name, lambda: z.normal(5))
    y = model.generator(joined(), condition if name in ("gan", "acgan") else None)
    return look.features(t.batch.x), look.features(y)


@pytest.mark.parametrize("name", GANS)
def test_dragans_noise_is_the_same_in_every_part_of_a_batch(name: str) -> None:
    """Rows are moved by the deviation of the whole turn before, so a batch's penalty is the mean of its halves'."""
    model = built(name, penalties={"dragan": 1.0})
    first, player = turn(), model.players()[0]
    loss = player.loss(first)
    with torch.no_grad():
        player.after_turn(loss)
    x = first.batch.x
    if name == "bigan":  # its points are pairs
        x = torch.cat([x, model.encoder(x, None)], dim=1)
    groups = [x, first.batch.parts["other"].x] if name == "cogan" else [x]
    within = torch.stack([rows.var() for rows in groups]).mean().sqrt().item()
    assert model.tricks.deviation.value.item() == pytest.approx(within, rel=1e-5)
    whole = {k: v.item() for k, v in terms(model, first).items() if k.startswith("dragan")}
    assert whole != pytest.approx({k: v.item() for k, v in loss.terms.items() if k in whole}, rel=1e-3)
    parts = [{k: v.item() for k, v in terms(model, half(first, i)).items()} for i in (0, 1)]
    assert whole == pytest.approx({k: (parts[0][k] + parts[1][k]) / 2 for k in whole}, rel=1e-5)


def half(t: Turn, i: int) -> Turn:
    """One of two micro-batches of a turn."""
    rows = slice(4 * i, 4 * i + 4)

    def cut(batch: Batch) -> Batch:
        seen = Condition(label=batch.condition.label[rows], image=batch.condition.image[rows])
        return Batch(batch.x[rows], seen, batch.ids[rows], batch.index[rows])

    one = replace(cut(t.batch), parts={name: cut(part) for name, part in t.batch.parts.items()})
    return t._replace(batch=one, noise=KeyedNoise(0, t.noise.ids[rows]))


@pytest.mark.parametrize("name", GANS)
def test_filters_begin_orthonormal(name: str) -> None:
    model = built(name, orthogonal_start=True)
    for player in model.players():
        for layer in (m for module in player.modules for m in module.modules() if isinstance(m, torch.nn.Linear)):
            w = layer.weight.detach()
            gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
            assert torch.allclose(gram, torch.eye(len(gram)), atol=1e-5)


@pytest.mark.parametrize("name", NORMAL)
def test_truncated_samples_are_those_of_truncated_latents(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, drawn = built(name).eval(), []
    real = tricks.latent
    monkeypatch.setattr(tricks, "latent", lambda *a: drawn.append(real(*a)) or drawn[-1])
    how = type(model.config.sampling)(truncation=0.5)
    condition = turn().batch.condition
    given = [model.sample(KeyedNoise(0, torch.arange(8)), condition, h) for h in (how, None)]
    assert drawn[0].abs().max() <= 0.5 < drawn[1].abs().max()
    assert not torch.equal(*given)
    assert torch.equal(drawn[1], KeyedNoise(0, torch.arange(8)).fork("z").normal(5))


def test_tags_are_drawn_of_truncated_latents_where_samples_are() -> None:
    """One draw of tags is G of the latent below; a recipe's truncation holds for it as for samples."""
    seen = turn().batch.condition.image
    for how in (tricks.Sampling(truncation=0.5), tricks.Sampling()):
        model = built("tags", sampling=how).eval()
        z = tricks.latent(KeyedNoise(0, torch.arange(8)).fork("draw 0"), 5, how)
        shares = model.tag(seen, KeyedNoise(0, torch.arange(8)), 1)
        assert torch.equal(shares, model._drawn(z, model.encoder(seen)).clamp(0.0, 1.0))


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("ebgan", {"smoothing": 0.1}, "model.smoothing does not fit this model: .*no label to smooth"),
        ("began", {"label_noise": 0.1}, "no label to change"),
        ("ebgan", {"objective": "hinge"}, "an energy, which has a loss of its own"),
        ("ssgan", {"objective": "hinge"}, "a cross-entropy"),
        ("ssgan", {"generator_terms": {"adversarial": 1.0}}, "learns by feature-matching, by which"),
        ("bigan", {"generator_terms": {"feature-matching": 1.0}}, "the encoder learns by the game alone"),
        ("ssgan", {"unlabelled": 0, "penalties": {"r1": 1.0}}, "sees no generated rows: leave penalties out"),
        ("ssgan", {"unlabelled": 0, "label_noise": 0.1}, "sees no generated rows: leave label_noise out"),
        ("ssgan", {"unlabelled": 0, "augment": {}}, "leave augment without a probability out"),
        ("gan", {"unroll": 1, "generator_terms": {"feature-matching": 1.0}}, "unroll is of the term adversarial"),
        ("gan", {"unroll": 1, "history": 0.1}, "by the game alone, so leave penalties, clip and history out"),
        ("cogan", {"domains": [0, 0]}, "write two different names"),
        ("infogan", {"categories": 10}, r"categories = 10: write a list, as in \[10\]"),
        ("acgan", {"generator_terms": {"adversarial": 1, "orthogonal": -1}}, "orthogonal: -1 would turn the term"),
        ("bigan", {"reconstruction": 1.0, "smoothing": 0.1}, "model: reconstruction .* bend"),
        ("acgan", {"objective": "hinge", "smoothing": 0.1}, "^model: smoothing needs the objective"),
        ("began", {"sampling": {"truncation": 1.0}}, "model.sampling.truncation does not fit this model: .*uniform"),
        ("acgan", {"penalties": "r1"}, "each name needs a weight, as in {r1: 1.0}"),
        ("acgan", {"generator_terms": ["orthogonal"]}, "as in {orthogonal: 1.0}"),
        ("acgan", {"augment": True}, "it takes options, as in {policies: .translation.}; {} is for the usual ones"),
        ("acgan", {"augment": {"policy": ["cutout"]}}, "unknown key 'model.augment.policy'; did you mean 'policies'"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(name: str, change: dict[str, object], sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence) as told:
        GANS[name][1].read(change, "model")
    assert "Input should" not in str(told.value)


def test_where_nothing_can_be_set_the_user_hears_what_to_do() -> None:
    with pytest.raises(RequestError, match="this model has nothing to set there, so leave it out"):
        core.Sampling.read({"truncation": 1.0}, "sampling")
    with pytest.raises(RequestError, match=r"unknown key 'model\.sampling\.truncate'; did you mean 'truncation'"):
        acgan.Config.read({"sampling": {"truncate": 1.0}}, "model")


@pytest.mark.parametrize("name", ["gan", "acgan", "can", "cogan", "infogan", "bigan", "tags"])
def test_a_wasserstein_critic_without_a_bound_is_named(name: str) -> None:
    def said(**changes: object) -> bool:
        return any("slope" in note for note in built(name, **{"objective": "wasserstein", **changes}).notes())

    assert said()
    assert said(penalties={"r1": 0.0})
    assert not said(penalties={"gradient-penalty": 10.0})
    assert not said(clip=0.01)
    assert not said(objective="hinge")
    spectral = {"discriminator": Choice(name="mlp", options={"width": 16, "spectral": True})}
    bounded = name not in ("cogan", "bigan")  # whose own layers before and behind the network have no such norm
    assert said(**spectral) != bounded
    (advice,) = (note for note in built(name, objective="wasserstein").notes() if "slope" in note)
    assert ("spectral" in advice) == bounded, "what is advised helps"


@pytest.mark.parametrize("name", ["infogan", "cogan", "bigan"])
def test_labels_that_are_not_looked_at_are_named(name: str) -> None:
    assert any("4 classes are left aside" in note for note in built(name).notes())
    assert not any("classes" in note for note in built(name, Space((3,))).notes())
    assert not any("classes" in note for note in built("acgan").notes())


def test_cogan_says_what_its_second_domain_is() -> None:
    assert any("negatives" in note for note in built("cogan").notes())
    assert not any("negatives" in note for note in built("cogan", domains=("a", "b")).notes())


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [("wgan-gp", {}), ("dragan", {}), ("acgan", {"model.penalties": {"r1": 1.0, "gradient-penalty": 1.0}})],
)
def test_penalties_in_bf16_are_close_to_those_in_float32(recipe: str, changes: dict[str, object]) -> None:
    """The gradient of D's whole loss, in which first and second derivatives meet in one backward pass."""
    small = {"name": "dcgan", "width": 16, "norm": "none"}
    networks = {"model.generator": small, "model.discriminator": small, "model.latent": 5}
    model = create(recipe, Space((1, 16, 16), classes=4), changes={**networks, **changes})
    player, t = model.players()[0], turn(Space((1, 16, 16), classes=4))
    weights = [p for module in player.modules for p in module.parameters()]

    def gradient() -> tuple[Tensor, Tensor]:
        found = player.loss(t).terms
        slopes = sum(term for name, term in found.items() if name in model.config.penalties)
        each = torch.autograd.grad(torch.stack(list(found.values())).sum(), weights, allow_unused=True)
        return torch.cat([g.flatten() for g in each if g is not None]), slopes.detach()

    exact, penalty = gradient()
    with torch.autocast("cpu", torch.bfloat16):
        rough, other = gradient()
    assert rough.dtype == other.dtype == torch.float32
    assert not torch.equal(exact, rough), "autocast did nothing"
    assert penalty > 0
    assert other.item() == pytest.approx(penalty.item(), rel=0.03)
    assert torch.nn.functional.cosine_similarity(exact, rough, dim=0) > 0.998
    assert rough.norm() / exact.norm() == pytest.approx(1.0, abs=0.03)
