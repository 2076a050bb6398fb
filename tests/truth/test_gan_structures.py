"""GANs of other structure: the term that makes each what it is, against a value worked out by hand."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.core.batch import Batch, Condition
from reverie.core.choice import Choice
from reverie.core.errors import RequestError
from reverie.core.noise import KeyedNoise
from reverie.core.player import Progress, Turn
from reverie.core.space import Space
from reverie.maths.classes import named
from reverie.models.gan import acgan, began, bigan, ebgan, infogan

SPACE = Space((3,), classes=4)
MLP = Choice(name="mlp", options={"width": 16})
PAIR = {"generator": MLP, "discriminator": MLP}
CODER = Choice(name="mlp", options={"hidden": [16]})


def turn(count: int = 6, labels: bool = True) -> Turn:
    ids = torch.arange(count)
    x = KeyedNoise(1, ids, "x").normal(3)
    return Turn(Batch(x, Condition(label=ids % 4 if labels else None), ids, ids), KeyedNoise(0, ids), Progress())


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


def test_infogan_reads_its_codes() -> None:
    """-log Q of each categorical code and the normal density of each continuous one, to be minimised by all three."""
    torch.manual_seed(0)
    config = infogan.Config(latent=5, categories=(3, 2), continuous=2, information=0.7, **PAIR)
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
    normal = torch.distributions.Normal(read[:, 5:7], read[:, 7:9].exp())
    continuous = -normal.log_prob(c).sum(1).mean()
    for loss in (model.discriminator_loss(t), model.generator_loss(t)):
        assert torch.allclose(loss.terms["categories"], 0.7 * categories, rtol=1e-5)
        assert torch.allclose(loss.terms["continuous"], 0.7 * continuous, rtol=1e-5)
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
