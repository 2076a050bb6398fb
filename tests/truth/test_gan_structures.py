"""GANs of other structure: the term that makes each what it is, against a value worked out by hand."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.core.batch import Batch, Condition
from reverie.core.capabilities import Classifies
from reverie.core.choice import Choice
from reverie.core.errors import RequestError
from reverie.core.model import Model
from reverie.core.noise import KeyedNoise
from reverie.core.player import Progress, Turn
from reverie.core.space import Space
from reverie.maths.classes import ambiguity, named
from reverie.models.gan import acgan, began, bigan, can, cogan, ebgan, gan, infogan, ssgan
from reverie.nn.label import LabelPlanes
from reverie.nn.unrolled import ahead

SPACE = Space((3,), classes=4)
MLP = Choice(name="mlp", options={"width": 16})
PAIR = {"generator": MLP, "discriminator": MLP}
CODER = Choice(name="mlp", options={"hidden": [16]})


def turn(count: int = 6, labels: bool = True) -> Turn:
    ids = torch.arange(count)
    x = KeyedNoise(1, ids, "x").normal(3)
    return Turn(Batch(x, Condition(label=ids % 4 if labels else None), ids, ids), KeyedNoise(0, ids), Progress())


def classifies(model: Model) -> Classifies:
    found = model.view(Classifies)
    assert found is not None
    return found


def softplus(x: Tensor) -> Tensor:
    return torch.log1p(torch.exp(x))


def test_acgan_names_real_and_generated_rows() -> None:
    """Both log-likelihoods with their logs, which the slide leaves out; rows without a label are left out."""
    torch.manual_seed(0)
    model = acgan.ACGAN(acgan.Config(latent=5, classify=0.5, **PAIR), SPACE, {})
    t = turn()
    fakes = model.generator(t.noise.fork("z").normal(5), t.batch.condition)
    label = t.batch.condition.label

    def nats(x: Tensor) -> Tensor:
        p = torch.exp(model.classes(model.discriminator.features(x)))
        return -torch.log(p[torch.arange(6), label] / p.sum(1)).mean()

    loss = model.discriminator_loss(t)
    assert torch.allclose(loss.terms["class of real"], 0.5 * nats(t.batch.x))
    assert torch.allclose(loss.terms["class of fake"], 0.5 * nats(fakes))
    logits = classifies(model).class_logits(t.batch.x)
    assert loss.figures["named"].item() == pytest.approx((logits.argmax(1) == label).float().mean().item())
    assert torch.allclose(F.cross_entropy(logits, label), nats(t.batch.x))
    some = Batch(t.batch.x, Condition(label=torch.where(torch.arange(6) < 2, logits.argmax(1), -1)), *[t.batch.ids] * 2)
    assert model.discriminator_loss(t._replace(batch=some)).figures["named"] == 1.0, "of the rows whose class is known"
    r, f = model.discriminator(t.batch.x), model.discriminator(fakes)
    assert torch.allclose(loss.terms["adversarial"], (softplus(-r) + softplus(f)).mean())
    mine = model.generator_loss(t).terms
    assert torch.allclose(mine["adversarial"], softplus(-f).mean())
    assert torch.allclose(mine["class of fake"], 0.5 * nats(fakes))
    logits = torch.tensor([[0.0, 0.0], [5.0, -5.0]])
    assert named(logits, torch.tensor([1, -1])).item() == pytest.approx(math.log(2))
    assert named(logits, torch.tensor([-1, -1])).item() == 0.0
    with pytest.raises(RequestError, match="two classes"):
        acgan.ACGAN(acgan.Config(**PAIR), replace(SPACE, classes=1), {})


def test_infogan_without_codes_is_refused() -> None:
    with pytest.raises(ValueError, match="no codes to learn"):
        infogan.Config(categories=(), continuous=0)


def test_infogan_reads_its_codes() -> None:
    """-log Q of each categorical code and the normal density of each continuous one, to be minimised by G and Q."""
    torch.manual_seed(0)
    weights = {"information": 0.7, "continuous_information": 0.2}
    config = infogan.Config(latent=5, categories=(3, 2), continuous=2, **weights, **PAIR)
    model = infogan.InfoGAN(config, SPACE, {})
    t = turn()
    z, (one, two, c) = model._draw(t.noise)
    assert z.shape == (6, 5 + 3 + 2 + 2)
    assert torch.equal(z[:, 5:8], F.one_hot(one, 3).float())
    assert torch.equal(z[:, 10:], c)
    assert c.abs().max() <= 1
    read = model.codes(model.discriminator.features(model.generator(z, None)))
    q = [F.log_softmax(read[:, :3], 1), F.log_softmax(read[:, 3:5], 1)]
    categories = -sum(log[torch.arange(6), code].mean() for log, code in zip(q, (one, two), strict=True))
    normal = torch.distributions.Normal(read[:, 5:7], 1.0)
    continuous = -normal.log_prob(c).sum(1).mean()
    terms = model.generator_loss(t).terms
    assert torch.allclose(terms["categories"], 0.7 * categories, rtol=1e-5)
    assert torch.allclose(terms["continuous"], 0.2 * continuous, rtol=1e-5)
    assert set(model.discriminator_loss(t).terms) == {"adversarial"}
    names = {player.name: {id(m) for m in player.modules} for player in model.players()}
    assert id(model.codes) in names["generator"]
    codes = model.encode(t.batch.x)
    assert [tuple(part.shape[1:]) for part in codes] == [(5,), (1,), (1,), (2,)]


def test_ebgan_pushes_generated_rows_up_to_a_margin() -> None:
    torch.manual_seed(0)
    model = ebgan.EBGAN(
        ebgan.Config(latent=5, code=4, margin=1.5, pull_away=0.3, generator=MLP, encoder=CODER, decoder=CODER),
        SPACE,
        {},
    )
    t = turn()
    fakes = model.generator(t.noise.fork("z").normal(5), t.batch.condition)

    def energy(x: Tensor) -> Tensor:
        code = model.encoder(x, t.batch.condition)
        return ((model.decoder(code, t.batch.condition)[:, 0] - x) ** 2).sum(1) / 3

    terms = model.discriminator_loss(t).terms
    assert torch.allclose(terms["real"], energy(t.batch.x).mean())
    assert torch.allclose(terms["fake"], (1.5 - energy(fakes)).clamp(min=0).mean())
    mine = model.generator_loss(t).terms
    assert torch.allclose(mine["energy"], energy(fakes).mean())
    assert torch.allclose(mine["pull-away"], 0.3 * ebgan.pull_away(model.encoder(fakes, t.batch.condition)))
    # Two codes at 60 degrees and one at a right angle to the first: cos^2 of 1/4, 0 and 3/4.
    codes = torch.tensor([[2.0, 0.0], [0.5, math.sqrt(0.75)], [0.0, 9.0]])
    assert ebgan.pull_away(codes).item() == pytest.approx((0.25 + 0.0 + 0.75) / 3)


def test_began_balances_by_its_controller() -> None:
    torch.manual_seed(0)
    model = began.BEGAN(
        began.Config(latent=5, diversity=0.4, control=0.1, generator=CODER, encoder=CODER, decoder=CODER), SPACE, {}
    )
    model.balance.fill_(0.25)
    t = turn()
    condition = t.batch.condition
    fakes = model.generator(t.noise.fork("z").uniform(5) * 2 - 1, condition)[:, 0]

    def error(x: Tensor) -> Tensor:
        return (model.decoder(model.encoder(x, condition), condition)[:, 0] - x).abs().mean()

    terms = model.discriminator_loss(t).terms
    assert torch.allclose(terms["real"], error(t.batch.x))
    assert torch.allclose(terms["fake"], -0.25 * error(fakes))
    loss = model.generator_loss(t)
    assert torch.allclose(loss.terms["fake"], error(fakes))
    apart = 0.4 * error(t.batch.x) - error(fakes)
    assert torch.allclose(loss.figures["convergence"], error(t.batch.x) + apart.abs())
    after = model.players()[1].after_turn
    assert after is not None
    for start, apart, end in ((0.25, 0.5, 0.3), (0.98, 0.5, 1.0), (0.01, -0.5, 0.0)):
        model.balance.fill_(start)
        after(replace(loss, figures={"balance": torch.tensor(apart)}))
        assert model.balance.item() == pytest.approx(end), "k is clamped to [0, 1]"


@pytest.mark.parametrize("unary", [False, True])
def test_bigan_tells_pairs_apart(unary: bool) -> None:
    """(x, E(x)) is the real pair and (G(z), z) the generated one: the slide of BigBiGAN has them the other way."""
    torch.manual_seed(0)
    networks = {**PAIR, "encoder": CODER}
    model = bigan.BiGAN(bigan.Config(latent=5, unary=unary, objective="hinge", **networks), SPACE, {})
    t = turn()
    z = t.noise.fork("z").normal(5)
    real = model.score_pair(t.batch.x, model.encoder(t.batch.x, None))
    fake = model.score_pair(model.generator(z, None), z)
    assert len(real) == (3 if unary else 1)
    terms, mine = model.discriminator_loss(t).terms, model.generator_loss(t).terms
    for k, name in enumerate(terms):
        by_hand = (1 - real[k]).clamp(min=0).mean() + (1 + fake[k]).clamp(min=0).mean()
        assert torch.allclose(terms[name], by_hand)
        assert torch.allclose(mine[name], real[k].mean() - fake[k].mean())
    if unary:  # a score of x alone does not move with z, nor the other way
        other = model.score_pair(t.batch.x, z)
        assert torch.equal(other[0], real[0])
        assert not torch.equal(other[2], real[2])
        assert torch.equal(other[1], fake[1])
    log = bigan.BiGAN(bigan.Config(latent=5, **networks), SPACE, {})
    r, f = log.score_pair(t.batch.x, log.encoder(t.batch.x, None)), log.score_pair(log.generator(z, None), z)
    expected = (softplus(r[0]) + softplus(-f[0])).mean()
    assert torch.allclose(log.generator_loss(t).terms["adversarial"], expected)


def test_veegan_is_a_log_ratio_and_finds_z_again() -> None:
    torch.manual_seed(0)
    model = bigan.BiGAN(bigan.Config(latent=5, reconstruction=0.3, encoder=CODER, **PAIR), SPACE, {})
    t = turn()
    z = t.noise.fork("z").normal(5)
    y = model.generator(z, None)
    terms = model.generator_loss(t).terms
    assert torch.allclose(terms["adversarial"], -model.score_pair(y, z)[0].mean())
    assert torch.allclose(terms["reconstruction"], 0.3 * (z - model.encoder(y, None)).pow(2).sum() / (6 * 5))
    grads = torch.autograd.grad(terms["adversarial"], list(model.encoder.parameters()), allow_unused=True)
    assert all(g is None for g in grads), "real pairs do not teach E"


def test_cgan_sees_labels_as_planes() -> None:
    x = torch.randn(3, 1, 2, 2)
    planes = LabelPlanes(2)(x, Condition(label=torch.tensor([1, -1, 0])))
    assert torch.equal(planes[:, :1], x)
    assert planes[:, 1:, 1, 0].tolist() == [[0, 1], [0, 0], [1, 0]]
    assert LabelPlanes(2)(torch.ones(1, 3), None).tolist() == [[1, 1, 1, 0, 0]]
    torch.manual_seed(0)
    joined = Choice(name="mlp", options={"width": 16, "label_at": "input"})
    model = gan.GAN(gan.Config(latent=5, generator=MLP, discriminator=joined), SPACE, {})
    t = turn()
    other = Condition(label=(t.batch.condition.label + 1) % 4)
    assert not torch.equal(model.score(t.batch.x, t.batch.condition), model.score(t.batch.x, other))
    assert model.discriminator.head.project is None


def test_unrolling_goes_through_the_steps_of_d() -> None:
    """A linear critic w on rows of mean a and b: w_K = w + K eta (a - b), and G at b feels both factors of -w_K b."""
    critic = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(critic.weight, 0.75)
    w, a, eta, steps = 0.75, 2.0, 0.1, 3
    x, y = torch.full((4, 1), a), torch.full((4, 1), 0.5, requires_grad=True)

    class Score(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.critic = critic

        def forward(self, rows: Tensor, condition: Condition) -> Tensor:
            return self.critic(rows)[:, 0]

    judge = ahead(Score(), lambda j: j(y, Condition()).mean() - j(x, Condition()).mean(), steps, eta)
    loss = -judge(y, Condition()).mean()
    w_k = w + steps * eta * (a - 0.5)
    assert loss.item() == pytest.approx(-w_k * 0.5)
    loss.backward()
    assert y.grad.sum().item() == pytest.approx(-w_k + steps * eta * 0.5)
    assert float(critic.weight) == w
    assert critic.weight.grad is None
    torch.manual_seed(0)
    plain = gan.GAN(gan.Config(latent=5, **PAIR), SPACE, {})
    t = turn()

    def ahead_by(steps: int, rate: float) -> float:
        looking = gan.GAN(gan.Config(latent=5, unroll=steps, unroll_rate=rate, **PAIR), SPACE, {})
        looking.load_state_dict(plain.state_dict())
        return looking.generator_loss(t).terms["adversarial"].item()

    now = plain.generator_loss(t).terms["adversarial"].item()
    assert ahead_by(2, 1e-9) == pytest.approx(now, rel=1e-5)
    change = ahead_by(1, 0.02) - now
    assert abs(change) > 1e-4
    assert ahead_by(2, 0.02) - now == pytest.approx(2 * change, rel=0.1)  # to first order, K steps are K times one


def test_unrolled_steps_are_told_what_d_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all labels are exchanged a critic's steps go the other way: they are steps of the opposite rate."""
    torch.manual_seed(0)
    config = gan.Config(latent=5, unroll=2, label_noise=0.5, objective="wasserstein", **PAIR)
    model = gan.GAN(config, SPACE, {})

    def told(exchanged: bool, rate: float) -> float:
        config = model.config.model_copy(update={"unroll_rate": rate})
        with monkeypatch.context() as patch:
            patch.setattr(model, "config", config)
            patch.setattr(model.tricks, "labelled", lambda r, f, turn: (f, r) if exchanged else (r, f))
            return model.generator_loss(turn()).terms["adversarial"].item()

    assert abs(told(False, 0.5) - told(False, -0.5)) > 1e-3
    assert told(True, 0.5) == pytest.approx(told(False, -0.5), abs=1e-6)


def test_ssgan_keeps_no_more_labels_than_there_are_rows_and_tells_of_classes_without() -> None:
    model = ssgan.SSGAN(ssgan.Config(latent=5, labels=10**9, **PAIR), replace(SPACE, count=4), {})
    assert len(model.labelled.x) == 4
    model = ssgan.SSGAN(ssgan.Config(latent=5, labels=4, **PAIR), SPACE, {})
    model.labelled.label.copy_(torch.tensor([0, 1, 1, 3]))
    assert list(model.notes()) == ["the 4 labels that are used show 3 of 4 classes: a larger model.labels shows more"]
    model.labelled.label.copy_(torch.arange(4))
    assert not model.notes()


def test_ssgan_has_one_class_more_for_generated_rows() -> None:
    torch.manual_seed(0)
    model = ssgan.SSGAN(ssgan.Config(latent=5, labels=6, unlabelled=0.4, **PAIR), SPACE, {})
    t = turn()

    class Rows:
        space = SPACE

        def first(self, count: int) -> Batch:
            label = torch.where(torch.arange(count) == 1, -1, t.batch.condition.label[:count])
            return replace(t.batch, condition=Condition(label=label))

    model.on_start(Rows())
    assert torch.equal(model.labelled.x[1], t.batch.x[2]), "a row without a label is passed over"
    assert torch.equal(model.labelled.x[5], t.batch.x[0]), "and the first ones come again"
    fakes = model.generator(t.noise.fork("z").uniform(5), None)

    def seen(x: Tensor) -> Tensor:  # probabilities of K + 1 classes
        logits = model.classes(model.discriminator.features(x))
        return torch.softmax(torch.cat([logits, torch.zeros(len(x), 1)], 1), 1)

    terms = model.discriminator_loss(t).terms
    assert torch.allclose(terms["real"], -0.4 * torch.log(1 - seen(t.batch.x)[:, 4]).mean(), rtol=1e-5)
    assert torch.allclose(terms["fake"], -0.4 * torch.log(seen(fakes)[:, 4]).mean(), rtol=1e-5)
    places = t.noise.fork("labelled").integers(6, 1)[:, 0]
    x, label = model.labelled.x[places], model.labelled.label[places]
    p = seen(x)[:, :4]
    assert torch.allclose(terms["class"], -torch.log(p[torch.arange(6), label] / p.sum(1)).mean(), rtol=1e-5)
    f, g = model.discriminator.features(t.batch.x).mean(0), model.discriminator.features(fakes).mean(0)
    assert torch.allclose(model.generator_loss(t).terms["feature-matching"], (f - g).pow(2).mean())
    assert model.space.classes == 0
    assert model.data_space.classes == 4


def test_can_wants_no_style() -> None:
    """With equal logits of K styles the ambiguity is log K - (K - 1) log(1 - 1/K); it is least there."""
    k = 4
    even = ambiguity(torch.zeros(1, k)).item()
    assert even == pytest.approx(math.log(k) - (k - 1) * math.log(1 - 1 / k))
    assert ambiguity(torch.tensor([[0.5, 0.0, 0.0, 0.0]])).item() > even
    p = torch.softmax(torch.tensor([1.0, 2.0, -1.0]), 0)
    by_hand = -sum(float(q.log()) / 3 + 2 / 3 * float((1 - q).log()) for q in p)
    assert ambiguity(torch.tensor([[1.0, 2.0, -1.0]])).item() == pytest.approx(by_hand, rel=1e-5)
    sure = torch.tensor([[20.0, 0.0, 0.0, 0.0]], requires_grad=True)
    q = torch.softmax(sure.detach().double(), 1)[0]
    ambiguity(sure).backward()
    assert ambiguity(sure).item() == pytest.approx(
        -sum(float(p.log() / 4 + 0.75 * torch.log1p(-p)) for p in q), rel=1e-5
    )
    assert sure.grad[0, 0].item() == pytest.approx(1.5, abs=1e-3)  # 3/4 of log (1 - P), 3 x 1/4 of the others' log P
    torch.manual_seed(0)
    model = can.CAN(can.Config(latent=5, ambiguity=0.5, **PAIR), SPACE, {})
    t = turn()
    fakes = model.generator(t.noise.fork("z").normal(5), None)
    terms = model.generator_loss(t).terms
    assert torch.allclose(terms["adversarial"], softplus(-model.discriminator(fakes)).mean())
    styles = model.styles(model.discriminator.features(fakes))
    assert torch.allclose(terms["ambiguity"], 0.5 * ambiguity(styles).mean())
    real = model.styles(model.discriminator.features(t.batch.x))
    assert torch.allclose(model.discriminator_loss(t).terms["style"], F.cross_entropy(real, t.batch.condition.label))
    assert torch.equal(classifies(model).class_logits(t.batch.x), real)


def test_cogan_draws_an_idea_twice() -> None:
    torch.manual_seed(0)
    model = cogan.CoGAN(cogan.Config(latent=5, **PAIR), SPACE, {})
    t = turn()
    other = replace(t.batch, x=KeyedNoise(2, t.batch.ids, "x").normal(3))
    t = t._replace(batch=replace(t.batch, parts={"other": other}))
    one, two = model.pair(t.noise.fork("z").normal(5))
    judge = [lambda x, e=entry: model.discriminator(e(x), None) for entry in model.entries]
    terms = model.discriminator_loss(t).terms
    by_hand = [(softplus(-judge[0](t.batch.x)) + softplus(judge[0](one))).mean()]
    by_hand.append((softplus(-judge[1](-other.x)) + softplus(judge[1](two))).mean())
    assert torch.allclose(torch.stack(list(terms.values())), torch.stack(by_hand))
    mine = model.generator_loss(t).terms
    assert torch.allclose(mine["domain 2"], softplus(-judge[1](two)).mean())
    noise = KeyedNoise(0, t.batch.ids)
    first, second = (model.sample(noise, how=cogan.Sampling(domain=k)) for k in (1, 2))
    assert torch.equal(first, one)
    assert torch.equal(second, two)


@pytest.mark.parametrize("build", [ebgan.EBGAN, began.BEGAN])
def test_energies_decode_for_a_label(build: type) -> None:
    """z comes with its label; without one the generator would answer for a label that training never saw."""
    torch.manual_seed(0)
    config = ebgan.Config if build is ebgan.EBGAN else began.Config
    networks = {"generator": MLP if build is ebgan.EBGAN else CODER, "encoder": CODER, "decoder": CODER}
    model = build(config(latent=5, **networks), SPACE, {})
    noise, label = KeyedNoise(0, torch.arange(6)), torch.arange(6)[:, None] % 4
    assert [space.levels for space in model.latents] == [None, 4]
    z = noise.fork("z").normal(5) if build is ebgan.EBGAN else noise.fork("z").uniform(5) * 2 - 1
    assert torch.equal(model.decode((z, label)), model.sample(noise, Condition(label=label[:, 0])))


def test_what_needs_more_is_refused() -> None:
    with pytest.raises(RequestError, match="raise train"):
        ebgan.pull_away(torch.ones(1, 3))
    with pytest.raises(ValueError, match="log ratio"):
        bigan.Config(reconstruction=1.0, objective="hinge")
    model = bigan.BiGAN(bigan.Config(**PAIR, encoder=CODER), SPACE, {})
    assert model.space.classes == 0, "a label that nothing looks at is not to be asked for"


def test_a_plain_classifier_sees_no_generated_rows() -> None:
    model = ssgan.SSGAN(ssgan.Config(latent=5, unlabelled=0.0, **PAIR), SPACE, {})
    model.on_start(type("Data", (), {"first": staticmethod(lambda count: turn().batch)}))
    assert set(model.discriminator_loss(turn()).terms) == {"class"}
