"""The GAN's two losses and its networks against what their papers say of them."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.core.batch import Batch, Condition
from reverie.core.catalog import find
from reverie.core.choice import Choice
from reverie.core.errors import RequestError
from reverie.core.noise import KeyedNoise
from reverie.core.player import Progress, Turn
from reverie.core.space import Space
from reverie.models.gan.gan import GAN, Config
from reverie.nn import tricks
from reverie.nn.bottleneck import Shrink, enlarge
from reverie.nn.discrimination import judged
from reverie.nn.discriminator import dcgan as dcgan_discriminator
from reverie.nn.discriminator import r3gan as r3gan_discriminator
from reverie.nn.generator import dcgan as dcgan_generator
from reverie.nn.generator import r3gan as r3gan_generator
from reverie.nn.minibatch import MinibatchFeatures
from reverie.nn.orthogonal import orthogonal_, overlap

SMALL = {"width": 8, "max_width": 16}
SPACE = Space((1, 12, 12))


def gan(network: str = "r3gan", space: Space = SPACE, objective: str = "relativistic", **options: object) -> GAN:
    torch.manual_seed(0)
    choice = Choice(name=network, options=SMALL if network != "mlp" else {"width": 16})
    model = GAN(Config(latent=6, objective=objective, generator=choice, discriminator=choice, **options), space, {})
    for weight in model.parameters():  # residual branches start at zero, and would hide what is inside
        weight.data.add_(0.05 * torch.randn_like(weight))
    return model.train()


def rows(count: int, space: Space = SPACE, first: int = 0) -> Batch:
    ids = torch.arange(first, first + count)
    label = ids % space.classes if space.classes else None
    x = KeyedNoise(1, ids, "x").uniform(*space.shape) * 2 - 1
    return Batch(x, Condition(label=label), ids, ids)


def turn(batch: Batch, index: int = 0, seed: int = 0) -> Turn:
    return Turn(batch, KeyedNoise(seed, batch.ids), Progress(), index)


def gradients(loss: Tensor, module: nn.Module) -> Tensor:
    found = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
    assert all(g is not None for g in found)
    return torch.cat([g.flatten() for g in found if g is not None])


def test_r3gan_losses_written_out() -> None:
    """Equations 2 and 3, with torch's own convolutions' derivatives checked in test_penalties."""
    model, batch = gan(penalties={"r1": 3.0, "r2": 0.7}), rows(4)
    terms = model.discriminator_loss(turn(batch)).terms
    fakes = model.generator(KeyedNoise(0, batch.ids).fork("z").normal(6)).detach()
    real_x, fake_x = batch.x.clone().requires_grad_(), fakes.clone().requires_grad_()
    real, fake = model.discriminator(real_x), model.discriminator(fake_x)
    squares = [torch.autograd.grad(d.sum(), x)[0].square().sum() / 4 for d, x in ((real, real_x), (fake, fake_x))]
    assert torch.allclose(terms["adversarial"], torch.log1p(torch.exp(-(real - fake))).mean())
    assert torch.allclose(terms["r1"], 3.0 / 2 * squares[0])
    assert torch.allclose(terms["r2"], 0.7 / 2 * squares[1])
    loss = model.generator_loss(turn(batch)).terms["adversarial"]
    assert torch.allclose(loss, torch.log1p(torch.exp(-(fake - real))).mean())


def test_lazy_penalties_weigh_as_much_over_their_rounds() -> None:
    batch = rows(4)
    model, lazy = gan(penalties={"r1": 1.0}), gan(penalties={"r1": 1.0}, penalty_every=4)
    terms = model.discriminator_loss(turn(batch)).terms
    for number, factor in ((0, 4), (1, 0), (3, 0), (4, 4)):
        found = lazy.discriminator_loss(turn(batch)._replace(progress=Progress(round=number))).terms
        assert torch.allclose(found["adversarial"], terms["adversarial"])
        assert torch.allclose(found.get("r1", torch.tensor(0.0)), factor * terms["r1"])


@pytest.mark.parametrize("objective", ["non-saturating", "relativistic"])
def test_shared_fakes_give_the_generator_the_same_gradient(objective: str) -> None:
    model, batch = gan(objective=objective), rows(4)
    model.generator.requires_grad_(False)
    model.discriminator_loss(turn(batch)).terms["adversarial"].backward()
    assert all(p.grad is None and not p.requires_grad for p in model.generator.parameters())
    assert all(p.grad is not None for p in model.discriminator.parameters())
    model.generator.requires_grad_()
    model.discriminator.requires_grad_(False)
    assert "fakes" in batch.scratch
    shared = gradients(model.generator_loss(turn(batch)).terms["adversarial"], model.generator)
    assert not batch.scratch
    alone = gradients(model.generator_loss(turn(batch)).terms["adversarial"], model.generator)
    assert torch.allclose(shared, alone, atol=1e-7)
    model.discriminator_loss(turn(batch, index=1))
    assert not batch.scratch, "later turns' fakes would be of an older generator"


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_two_micro_batches_are_one_batch(player: str) -> None:
    model, batch = gan(penalties={"r1": 1.0, "r2": 1.0}), rows(6)
    halves = [replace(rows(3), x=batch.x[:3]), replace(rows(3, first=3), x=batch.x[3:])]
    losses = []
    for part in (batch, *halves):
        loss = model.discriminator_loss(turn(part)) if player == "discriminator" else model.generator_loss(turn(part))
        losses.append(gradients(torch.stack(list(loss.terms.values())).sum(), getattr(model, player)))
    whole, first, second = losses
    assert torch.allclose(whole, (first + second) / 2, rtol=1e-4, atol=1e-6)


def test_batch_norm_sees_real_and_generated_rows_apart() -> None:
    space = Space((1, 16, 16))
    model, batch = gan("dcgan", space, objective="non-saturating"), rows(8, space)
    figures = [model.discriminator_loss(turn(batch, seed=seed)).figures for seed in (0, 1)]
    assert figures[0]["fake"] != figures[1]["fake"]
    assert torch.equal(figures[0]["real"], figures[1]["real"]), "fakes reached the statistics of real rows"
    fakes = model.generator(KeyedNoise(0, batch.ids).fork("z").normal(6))
    together = model.discriminator(torch.cat([batch.x, fakes]))[:8].mean()
    assert not torch.allclose(together, figures[0]["real"], rtol=1e-3)


def test_dcgan_is_built_as_the_paper_says() -> None:
    """Batch norm but at G's output and D's input, ReLU against leaky ReLU of slope 0.2, stride 2 and no pooling."""
    space = Space((3, 64, 64))
    generator = dcgan_generator.Network(dcgan_generator.Config(), space, latent=100)
    critic = dcgan_discriminator.Network(dcgan_discriminator.Config(), space)
    assert generator.sizes == [(4, 4), (8, 8), (16, 16), (32, 32), (64, 64)]
    assert [layer.weight.shape[0] for layer in generator.layers] == [512, 256, 128, 64]
    assert [len(norm.weight) for norm in generator.norms] == [512, 256, 128, 64]  # before each layer, none after
    assert isinstance(critic.norms[0], nn.Identity)
    assert [len(norm.weight) for norm in critic.norms[1:]] == [128, 256, 512]
    assert all(layer.stride == (2, 2) for layer in [*generator.layers, *critic.layers])
    digits = dcgan_generator.Network(dcgan_generator.Config(), Space((1, 28, 28)), latent=100)
    assert digits.sizes == [(4, 4), (7, 7), (14, 14), (28, 28)]

    plain = {"norm": "none"}
    critic = dcgan_discriminator.Network(dcgan_discriminator.Config(width=1, **plain), Space((1, 8, 8)))
    critic.layers[0].weight.data.zero_()
    critic.head.logit.weight.data.fill_(1.0)
    for bias, slope in ((2.0, 1.0), (-2.0, 0.2)):
        critic.layers[0].bias.data.fill_(bias)
        assert critic(torch.zeros(1, 1, 8, 8)).item() == pytest.approx(16 * bias * slope)


def test_recipes_have_the_papers_constants() -> None:
    dcgan, r3gan = find("dcgan").body, find("r3gan").body
    assert dcgan["train"]["batch"] == 128
    for player in ("generator", "discriminator"):
        assert dcgan["model"][f"{player}_optimizer"]["betas"][0] == 0.5
        assert r3gan["model"][f"{player}_optimizer"]["betas"][0] == 0.0
    assert r3gan["model"]["objective"] == "relativistic"
    assert r3gan["model"]["penalties"]["r1"] == r3gan["model"]["penalties"]["r2"]


@pytest.mark.parametrize("stem", [1, 2])
def test_untrained_r3gan_is_a_linear_map(stem: int) -> None:
    """Residual branches end in zeros, so G and D start without their nonlinearities; nothing is squashed at the end."""
    torch.manual_seed(0)
    space = Space((3, 17, 20))
    generator = r3gan_generator.Network(r3gan_generator.Config(**SMALL), space, latent=5)
    critic = r3gan_discriminator.Network(r3gan_discriminator.Config(stem=stem, **SMALL), space)
    a, b = torch.randn(2, 4, 5)
    assert torch.allclose(generator(2 * a - 3 * b), 2 * generator(a) - 3 * generator(b), atol=1e-4)
    x, y = torch.randn(2, 4, 3, 17, 20)
    assert generator(a).shape == x.shape
    assert torch.allclose(critic(2 * x - 3 * y), 2 * critic(x) - 3 * critic(y), atol=1e-4)


def test_rows_are_judged_together_only_where_they_do_not_see_each_other() -> None:
    """The same logits, slopes and gradients, with labels, as of a call for each place."""
    batch = rows(4, replace(SPACE, classes=3))
    model = gan(space=replace(SPACE, classes=3))
    calls = []
    model.discriminator.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    points = {"real": batch.x, "fake": batch.x.flip(0) * 0.5, "between": batch.x * 0.2}
    logits, slopes = judged(model.discriminator, points, ["real", "between"], batch.condition)
    assert calls == [8, 4]
    assert not model.discriminator.mixes_rows
    for at, x in points.items():
        leaf = x.clone().requires_grad_()
        alone = model.discriminator(leaf, batch.condition)
        assert torch.allclose(logits[at], alone, atol=1e-5)
        if at != "fake":
            assert torch.allclose(slopes[at], torch.autograd.grad(alone.sum(), leaf)[0], atol=1e-5)
    assert slopes.keys() == {"real", "between"}
    calls.clear()
    apart = gan("dcgan", replace(SPACE, classes=3))
    assert apart.discriminator.mixes_rows, "batch norm"
    apart.discriminator.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    judged(apart.discriminator, points, ["real"], batch.condition)
    assert calls == [4, 4, 4]


def test_r3gan_blocks_are_grouped_bottlenecks() -> None:
    config = r3gan_generator.Config(width=32, max_width=64, blocks=2, group=16, expansion=2)
    network = r3gan_generator.Network(config, Space((1, 28, 28)), latent=5)
    block = network.stages[-1][0]
    assert network.basis.shape == (4, 4, 64)
    assert [tuple(layer.weight.shape) for layer in (block.expand, block.mix, block.reduce)] == [
        (64, 32, 1, 1),
        (64, 16, 3, 3),
        (32, 64, 1, 1),
    ]
    assert not any(isinstance(m, nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm) for m in network.modules())
    # Fixup: deviation gain / sqrt(fan in) * L^(-1/4) for the L = 8 blocks, zero for the last layer.
    expected = (2 / 1.04) ** 0.5 / (16 * 9) ** 0.5 * 8**-0.25
    assert block.mix.weight.std().item() == pytest.approx(expected, rel=0.05)
    assert not block.reduce.weight.any()


def test_resampling_against_torchs_antialiased_filter() -> None:
    x = torch.randn(2, 3, 12, 10)
    reference = F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)
    assert torch.allclose(Shrink()(x)[:, :, 1:-1, 1:-1], reference[:, :, 1:-1, 1:-1], atol=1e-6)
    y = torch.zeros(2, 3, 6, 5)
    y[:, :, 1:-1, 1:-1] = torch.randn(2, 3, 4, 3)  # away from the border, where padding differs
    assert torch.allclose((enlarge(y, (12, 10)) * x).sum(), 4 * (y * Shrink()(x)).sum(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", ["dcgan", "r3gan", "mlp"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 9, 30), (1, 5, 5)])
def test_any_size_of_image(network: str, shape: tuple[int, ...]) -> None:
    model = gan(network, Space(shape)).eval()
    x = model.decode((100 * torch.randn(3, 6),))
    assert x.shape == (3, *shape)
    assert model.score(x).shape == (3,)
    assert (x.abs().max() <= 1) == (network != "r3gan"), "tanh, but for R3GAN's linear output"


@pytest.mark.parametrize("network", ["dcgan", "r3gan", "mlp"])
def test_labels_reach_both_networks(network: str) -> None:
    space = Space((1, 12, 12), classes=3)
    model = gan(network, space).eval()
    z, x = torch.randn(1, 6).expand(3, 6), torch.randn(1, 1, 12, 12).expand(3, 1, 12, 12)
    label = torch.arange(3)
    images, logits = model.decode((z, label[:, None])), model.score(x, Condition(label=label))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert not torch.allclose(images[i], images[j], atol=1e-5)
        assert not torch.allclose(logits[i], logits[j], atol=1e-5)
    unknown = model.score(x, Condition(label=torch.full((3,), -1)))
    assert torch.equal(unknown, model.score(x))
    loss = model.discriminator_loss(turn(rows(6, space)))
    assert torch.isfinite(loss.terms["adversarial"])


def test_labels_that_are_not_asked_for_are_drawn_evenly() -> None:
    space = Space((1, 12, 12), classes=3)
    model, noise = gan("mlp", space).eval(), KeyedNoise(0, torch.arange(3000))
    seen: list[Tensor] = []
    model.generator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1].label))
    model.sample(noise)
    assert torch.bincount(seen[0]).tolist() == pytest.approx([1000] * 3, abs=100)
    asked = torch.where(torch.arange(3000) < 1500, 2, -1)
    model.sample(KeyedNoise(0, torch.arange(3000)), Condition(label=asked))
    assert bool((seen[1][:1500] == 2).all())
    assert torch.equal(seen[1][1500:], seen[0][1500:])


def test_unknown_names_in_a_recipe() -> None:
    with pytest.raises(RequestError, match="did you mean 'hinge'"):
        Config.read({"objective": "hing"}, "model")
    with pytest.raises(RequestError, match="no penalty 'r3'"):
        Config.read({"penalties": {"r3": 1.0}}, "model")
    with pytest.raises(RequestError, match="latent"):
        Config.read({"latent": 0}, "model")


def test_wgan_gp_losses_written_out() -> None:
    """Algorithm 1: the penalty on points of the lines between, each row's norm by itself."""
    model, batch = gan(objective="wasserstein", penalties={"gradient-penalty": 10.0}), rows(4)
    terms = model.discriminator_loss(turn(batch)).terms
    noise = KeyedNoise(0, batch.ids)
    y = model.generator(noise.fork("z").normal(6)).detach()
    share = noise.fork("between").uniform(1, 1, 1)
    points = (share * batch.x + (1 - share) * y).requires_grad_()
    slope = torch.autograd.grad(model.discriminator(points).sum(), points)[0]
    assert torch.allclose(terms["adversarial"], (model.discriminator(y) - model.discriminator(batch.x)).mean())
    expected = 10.0 * (slope.square().sum((1, 2, 3)).sqrt() - 1).square().mean()
    assert torch.allclose(terms["gradient-penalty"], expected, rtol=1e-5)


def test_clipping_cuts_the_critic_and_nothing_else() -> None:
    model = gan("mlp", objective="wasserstein", clip=0.01, discriminator_turns=5)
    critic, generator = model.players()
    before = [p.clone() for p in model.generator.parameters()]
    weights = [p.clone() for p in model.discriminator.parameters()]
    assert critic.turns == 5
    assert critic.after_turn is not None
    assert generator.after_turn is not None
    with torch.no_grad():
        generator.after_turn(model.generator_loss(turn(rows(2))))
        critic.after_turn(model.discriminator_loss(turn(rows(2))))
    assert all(torch.equal(a, b) for a, b in zip(before, model.generator.parameters(), strict=True))
    for old, new in zip(weights, model.discriminator.parameters(), strict=True):
        assert torch.equal(new, old.clamp(-0.01, 0.01))


def test_noise_on_what_the_discriminator_sees_falls_to_nothing() -> None:
    model, batch = gan("mlp", input_noise=0.5), rows(400)
    at = [Turn(batch, KeyedNoise(0, batch.ids), Progress(0, 0, fraction)) for fraction in (0.0, 0.5, 1.0)]
    spread = [(model.tricks.seen(batch.x, t, "real") - batch.x).std().item() for t in at]
    assert spread == pytest.approx([0.5, 0.25, 0.0], rel=0.02)
    sides = [model.tricks.seen(batch.x, at[0], side) for side in ("real", "fake")]
    assert not torch.equal(*sides)


def test_spectral_norm_holds_each_layer_at_one() -> None:
    """The product of layers' greatest singular values bounds the slope; torch's own norm, followed for a while."""
    torch.manual_seed(0)
    config = dcgan_discriminator.Config(width=8, norm="none", spectral=True)
    network = dcgan_discriminator.Network(config, Space((1, 16, 16), classes=3)).train()
    for _ in range(60):
        network(torch.randn(2, 1, 16, 16), Condition(label=torch.tensor([0, 1])))
    matrices = [m.weight.detach().flatten(1) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(matrices) >= 4
    for matrix in matrices:
        assert torch.linalg.matrix_norm(matrix, 2).item() == pytest.approx(1.0, abs=0.02)


def test_smoothing_is_of_cross_entropies() -> None:
    with pytest.raises(ValueError, match="saturating or non-saturating"):
        Config(objective="hinge", smoothing=0.1)
    model, plain = gan("mlp", objective="non-saturating", smoothing=0.1), gan("mlp", objective="non-saturating")
    loss, other = (m.discriminator_loss(turn(rows(4))) for m in (model, plain))
    assert torch.allclose(loss.terms["adversarial"], other.terms["adversarial"] + 0.1 * loss.figures["real"])


def test_feature_matching_written_out() -> None:
    model = gan("mlp", generator_terms={"feature-matching": 2.0})
    batch = rows(5)
    y = model.generator(KeyedNoise(0, batch.ids).fork("z").normal(6))
    apart = model.discriminator.features(batch.x).mean(0) - model.discriminator.features(y).mean(0)
    loss = model.generator_loss(turn(batch))
    assert list(loss.terms) == ["feature-matching"]
    assert torch.allclose(loss.terms["feature-matching"], 2.0 * apart.square().sum())
    with pytest.raises(ValueError, match="to learn from"):
        Config(generator_terms={"orthogonal": 1.0})
    with pytest.raises(ValueError, match="did you mean 'orthogonal'"):
        Config(generator_terms={"adversarial": 1.0, "orthogonl": 1.0})


def test_minibatch_features_by_hand() -> None:
    layer = MinibatchFeatures(2, kernels=2, width=1)
    layer.project.weight.data = torch.eye(2)
    h = torch.tensor([[0.0, 1.0], [0.5, 1.0], [2.0, 4.0]])
    e = torch.tensor([0.0, -0.5, -1.5, -2.0, -3.0]).exp()
    close = torch.stack([torch.stack([e[1] + e[3], 1 + e[4]]), torch.stack([e[1] + e[2], 1 + e[4]])])
    assert torch.allclose(layer(h)[:2], torch.cat([h[:2], close], 1))


def test_orthogonal_start_and_the_term_that_keeps_filters_apart() -> None:
    model = gan("dcgan", Space((1, 16, 16)), orthogonal_start=True)
    for weight in model.parameters():  # undoes what ``gan`` adds
        weight.data.zero_()
    orthogonal_(model.generator)
    weight = model.generator.layers[0].weight.transpose(0, 1).flatten(1)
    assert torch.allclose(weight @ weight.T, torch.eye(len(weight)), atol=1e-5)
    assert overlap(nn.Sequential(model.generator.layers[0])).item() == pytest.approx(0.0, abs=1e-6)
    layer = nn.Linear(2, 2)
    layer.weight.data = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert overlap(nn.Sequential(layer)).item() == 2 * 11.0**2
    config = dcgan_discriminator.Config(width=8, norm="none", spectral=True)
    network = dcgan_discriminator.Network(config, Space((1, 16, 16)))
    orthogonal_(network)
    first = network.layers[0].parametrizations.weight.original.flatten(1)
    assert torch.allclose(first @ first.T, torch.eye(len(first)), atol=1e-5)


def test_history_pulls_to_the_mean_of_the_past() -> None:
    model = gan("mlp", history=0.5)
    critic = model.players()[0]
    assert model.discriminator_loss(turn(rows(2))).terms["history"] == 0
    past = []
    for _ in range(3):
        past.append([p.detach().clone() for p in model.discriminator.parameters()])
        with torch.no_grad():
            critic.after_turn(model.discriminator_loss(turn(rows(2))))
            for p in model.discriminator.parameters():
                p.add_(torch.randn_like(p))
    means = [torch.stack(p).mean(0) for p in zip(*past, strict=True)]
    apart = sum((p - m).square().sum().item() for p, m in zip(model.discriminator.parameters(), means, strict=True))
    term = model.discriminator_loss(turn(rows(2))).terms["history"]
    assert term.item() == pytest.approx(0.5 * apart, rel=1e-5)
    term.backward()
    weight = next(model.discriminator.parameters())
    assert torch.allclose(weight.grad, weight.detach() - means[0], atol=1e-5)


def test_label_noise_exchanges_a_share_of_pairs() -> None:
    model = gan("mlp", label_noise=0.2)
    real, fake = torch.arange(5000.0), -torch.arange(5000.0) - 1
    one, two = model.tricks.labelled(real, fake, turn(rows(5000)))
    assert torch.equal(one + two, real + fake)
    assert (one < two).float().mean().item() == pytest.approx(0.2, abs=0.02)


def test_truncated_latents_are_normal_within_their_bounds() -> None:
    model = gan("mlp")
    how = tricks.Sampling(truncation=1.0)
    z = tricks.latent(KeyedNoise(0, torch.arange(4000)), 6, how)
    assert z.abs().max() <= 1.0
    density = math.exp(-0.5) / math.sqrt(2 * math.pi)
    variance = 1 - 2 * density / math.erf(1 / math.sqrt(2))
    assert z.mean().item() == pytest.approx(0.0, abs=0.02)
    assert z.var().item() == pytest.approx(variance, rel=0.03)
    assert model.sample(KeyedNoise(0, torch.arange(3)), None, how).shape == (3, 1, 12, 12)


def test_augmentation_follows_the_discriminator_and_is_kept() -> None:
    model = gan("mlp", augment={"ramp": 100.0})
    batch = rows(10)
    assert model.tricks.augmentation == 0.0
    loss = model.discriminator_loss(turn(batch))
    critic = model.players()[0]
    sure = replace(loss, figures={**loss.figures, "told apart": torch.tensor(0.95)})
    with torch.no_grad():
        critic.after_turn(sure)
    assert model.tricks.augmentation.item() == pytest.approx(0.1)
    assert "tricks.augmentation" in model.state_dict()
    model.tricks.augmentation.fill_(1.0)
    seen = [model.tricks.seen(batch.x, turn(batch), side) for side in ("real", "fake")]
    assert not torch.equal(seen[0], batch.x)
    assert not torch.equal(*seen)
    with pytest.raises(RequestError, match="images"):
        gan("mlp", Space((2,)), augment={})
