"""Parts of GANs' networks against values worked out by hand or written out another way."""

from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reverie.core.errors import RequestError
from reverie.core.space import Space
from reverie.nn.activation import activate
from reverie.nn.discriminator import dcgan as dcgan_discriminator
from reverie.nn.discriminator import mlp as mlp_discriminator
from reverie.nn.discriminator import resnet as resnet_discriminator
from reverie.nn.fourier import FourierFeatures
from reverie.nn.gan_residual import GrowBlock, ShrinkBlock
from reverie.nn.generator import dcgan as dcgan_generator
from reverie.nn.generator import mlp as mlp_generator
from reverie.nn.generator import resnet as resnet_generator
from reverie.nn.virtual_norm import VirtualBatchNorm

DIGIT = Space((1, 28, 28))


def test_virtual_batch_norm_by_hand() -> None:
    """Reference rows 0, 2 | 4, 6: moments 3 and 14. Row 5, 7: 6 and 37, so that a third of each is (4, 65 / 3)."""
    x = torch.tensor([[0.0, 2.0], [4.0, 6.0], [5.0, 7.0]]).view(3, 1, 1, 2)
    layer = VirtualBatchNorm(1, 2)
    layer.weight.data.fill_(2.0)
    layer.bias.data.fill_(0.5)
    y = layer(x).flatten(1)
    assert torch.allclose(y[2], 2.0 * (x[2].flatten() - 4.0) / (65 / 3 - 16.0) ** 0.5 + 0.5, atol=1e-4)
    assert torch.allclose(y[:2], 2.0 * (x[:2].flatten(1) - 3.0) / 5.0**0.5 + 0.5, atol=1e-4)


def test_rows_under_virtual_batch_norm_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    config = dcgan_generator.Config(width=4, norm="virtual", reference=6)
    network = dcgan_generator.Network(config, Space((1, 28, 28), classes=3), 5).train()
    z = torch.randn(4, 5)
    assert torch.allclose(network(z)[:2], network(torch.cat([z[:2], 9.0 * torch.randn(7, 5)]))[:2], atol=1e-5)
    plain = dcgan_generator.Network(dcgan_generator.Config(width=4), DIGIT, 5).train()
    assert not torch.allclose(plain(z)[:2], plain(torch.cat([z[:2], 9.0 * torch.randn(7, 5)]))[:2], atol=1e-3)


def test_fourier_features_by_hand() -> None:
    layer = FourierFeatures(2, 1, 1.0)
    layer.waves.copy_(torch.tensor([[0.5], [0.25]]))
    x = torch.tensor([[1.0, 2.0], [0.5, 0.0]])  # phases of a whole turn and of a quarter
    assert torch.allclose(layer(x), torch.tensor([[1.0, 2.0, 1.0, 0.0], [0.5, 0.0, 0.0, 1.0]]), atol=1e-6)
    torch.manual_seed(0)
    assert FourierFeatures(1, 20_000, 3.0).waves.std().item() == pytest.approx(3.0, rel=0.02)


def test_activations_by_hand() -> None:
    x = torch.tensor([[-1.0, 2.0]])
    assert activate(x, "relu").tolist() == [[0.0, 2.0]]
    assert activate(x, "relu", 0.2).tolist() == [[pytest.approx(-0.2), 2.0]]
    assert activate(x, "tanh").tolist() == [[pytest.approx(-0.761594), pytest.approx(0.964028)]]
    assert activate(x, "gated").tolist() == [[pytest.approx(-0.761594 * 0.880797)]]


@pytest.mark.parametrize("kind", ["tanh", "gated"])
def test_an_activation_is_everywhere(kind: str) -> None:
    """tanh and the gate are odd or bounded: without norms, no unit but the output's leaves [-1, 1]."""
    torch.manual_seed(0)
    network = dcgan_discriminator.Network(dcgan_discriminator.Config(width=8, norm="none", activation=kind), DIGIT)
    for layer in network.layers:
        layer.weight.data.mul_(100.0)
    assert network.features(torch.randn(3, *DIGIT.shape)).abs().max() <= 1.0
    seen: list[float] = []
    config = dcgan_generator.Config(width=8, norm="none", activation=kind)
    generator = dcgan_generator.Network(config, DIGIT, 5)
    for layer in generator.layers:
        layer.weight.data.mul_(100.0)
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(float(inputs[0].abs().max())))
    generator(torch.randn(3, 5))
    assert len(seen) == 3
    assert max(seen) <= 1.0


def test_layer_norm_in_a_critic_is_of_each_row() -> None:
    network = dcgan_discriminator.Network(dcgan_discriminator.Config(width=8, norm="layer"), DIGIT).train()
    x = torch.randn(4, *DIGIT.shape)
    assert torch.allclose(network(x)[:1], network(x[:1]), atol=1e-5)
    values: list[torch.Tensor] = []
    network.norms[1].register_forward_hook(lambda _, __, y: values.append(y))
    network(x)
    assert torch.allclose(values[0].flatten(1).mean(1), torch.zeros(4), atol=1e-5)
    assert torch.allclose(values[0].flatten(1).var(1, unbiased=False), torch.ones(4), atol=0.02)


def test_residual_blocks_with_silent_convolutions_are_their_skips() -> None:
    x = torch.randn(2, 3, 7, 7)
    shrink, grow = ShrinkBlock(3, 3, True, "none"), GrowBlock(3, 3, (13, 14), True)
    for block in (shrink, grow):
        nn.init.zeros_(block.conv_2.weight)
    assert torch.equal(shrink(x), F.avg_pool2d(x, 2, ceil_mode=True))
    assert torch.equal(grow(x), x.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, :13])


def test_residual_blocks_written_out() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 6)
    block = ShrinkBlock(3, 5, True, "none")
    h = F.conv2d(F.relu(x), block.conv_1.weight, padding=1)
    h = F.avg_pool2d(F.conv2d(F.relu(h), block.conv_2.weight, padding=1), 2)
    assert torch.allclose(block(x), F.avg_pool2d(F.conv2d(x, block.skip.weight), 2) + h, atol=1e-5)
    first = ShrinkBlock(3, 5, False, "none", first=True)
    h = F.conv2d(F.relu(F.conv2d(x, first.conv_1.weight, padding=1)), first.conv_2.weight, padding=1)
    assert torch.allclose(first(x), F.conv2d(x, first.skip.weight) + h, atol=1e-5)
    grow = GrowBlock(3, 5, (12, 12), False)
    up = nn.Upsample(scale_factor=2)
    h = F.conv2d(F.relu(F.conv2d(up(F.relu(x)), grow.conv_1.weight, padding=1)), grow.conv_2.weight, padding=1)
    assert torch.allclose(grow(x), up(F.conv2d(x, grow.skip.weight)) + h, atol=1e-5)


def test_a_branch_weighs_what_is_added() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6, 6)
    for block in (GrowBlock(4, 4, None, False, 0.3), ShrinkBlock(4, 4, False, "none", branch=0.3)):
        h = F.conv2d(F.relu(F.conv2d(F.relu(x), block.conv_1.weight, padding=1)), block.conv_2.weight, padding=1)
        assert torch.allclose(block(x), x + 0.3 * h, atol=1e-6)


def test_blocks_are_of_all_stages_alike_or_told_for_each() -> None:
    even, told = (
        resnet_generator.Network(resnet_generator.Config(width=4, blocks=b), DIGIT, 5) for b in (2, (3, 1, 2))
    )
    sides = [[None if block.size is None else block.size[0] for block in network.stages] for network in (even, told)]
    assert sides == [[7, None, 14, None, 28, None], [7, None, None, 14, 28, None]]
    critic = resnet_discriminator.Network(resnet_discriminator.Config(width=4, blocks=(1, 3)), DIGIT)
    assert [block.shrink for block in critic.stages] == [True, True, False, False, False]
    with pytest.raises(RequestError, match="blocks has 2 numbers: images of this size have 3 stages"):
        resnet_generator.Network(resnet_generator.Config(width=4, blocks=(1, 2)), DIGIT, 5)


def test_a_deep_mlp_begins_with_a_picture_for_every_z() -> None:
    """He's weights keep E h^2 through ReLUs: the last layer's inputs of D values are about as far apart as z is."""
    torch.manual_seed(0)
    spread = {}
    for start in ("he", "narrow"):
        config = mlp_generator.Config(width=512, depth=6, slope=0, start=start)
        network = mlp_generator.Network(config, DIGIT, 128)
        h = torch.randn(500, 128)
        for layer in network.layers[:-1]:
            h = layer(h).relu()
        spread[start] = float(h.square().mean())
    assert 0.7 < spread["he"] < 1.4
    assert spread["narrow"] < 0.02  # a sixth of the variance goes through each layer, and biases remain
    points = mlp_generator.Network(mlp_generator.Config(), Space((2,)), 2)
    assert points.layers[0].bias.ne(0).all(), "of points the kinks of ReLUs lie at many places"


def test_seventeen_blocks_make_more_than_101_layers() -> None:
    for network in (
        resnet_generator.Network(resnet_generator.Config(width=4, blocks=17), DIGIT, 5),
        resnet_discriminator.Network(resnet_discriminator.Config(width=4, blocks=17, stop=4), DIGIT),
    ):
        deep = [m for m in network.modules() if isinstance(m, nn.Linear) or getattr(m, "kernel_size", 0) == (3, 3)]
        assert 101 <= len(deep) <= 110


def test_the_critic_of_an_odd_size_sees_every_pixel() -> None:
    """Average pooling halves rounding up: a gradient reaches each corner of 27x29 pixels."""
    torch.manual_seed(0)
    space = Space((1, 27, 29))
    network = resnet_discriminator.Network(resnet_discriminator.Config(width=8), space)
    x = torch.randn(1, *space.shape, requires_grad=True)
    network(x).sum().backward()
    assert (x.grad != 0).all()
    assert resnet_generator.Network(resnet_generator.Config(width=8), space, 4)(torch.randn(2, 4)).shape[2:] == (27, 29)


@pytest.mark.parametrize("module", [dcgan_generator, dcgan_discriminator])
def test_norms_of_older_runs_are_read(module: object) -> None:
    assert [module.Config(norm=norm).norm for norm in (True, False, "none")] == ["batch", "none", "none"]
    with pytest.raises(ValueError, match="norm"):
        module.Config(norm="bach")


def test_noise_enters_each_layer_of_a_critic_in_training_alone() -> None:
    torch.manual_seed(0)
    critic = mlp_discriminator.Network(mlp_discriminator.Config(width=8, depth=2, noise=0.5), Space((2,)))
    one, two = critic.layers
    assert isinstance(one, nn.Linear)
    assert isinstance(two, nn.Linear)
    with torch.no_grad():
        one.bias.fill_(20.0)  # far above 0: both layers are linear there
        two.weight.abs_()
    x = torch.tensor([[0.3, -0.7]])
    mean, chain = two(one(x)), two.weight @ one.weight
    variance = 0.25 * (chain.square().sum(1) + two.weight.square().sum(1))
    drawn = critic.features(x.expand(40_000, 2)).detach()
    assert torch.allclose(drawn.mean(0), mean[0], atol=0.02)
    assert torch.allclose(drawn.var(0), variance, rtol=0.04)
    assert torch.allclose(critic.eval().features(x), mean)


def test_batch_norm_in_a_generator_of_layers_by_hand() -> None:
    torch.manual_seed(0)
    config = mlp_generator.Config(width=5, depth=1, slope=0.0, norm="batch")
    generator = mlp_generator.Network(config, Space((2,)), latent=3)
    z = torch.randn(16, 3)
    h = generator.layers[0](z)
    h = (h - h.mean(0)) / (h.var(0, correction=0) + 1e-5).sqrt()
    assert torch.allclose(generator(z), generator.layers[1](h.relu()), atol=1e-5)


@pytest.mark.parametrize("network", [dcgan_generator, resnet_generator, dcgan_discriminator, resnet_discriminator])
def test_networks_of_images_refuse_points(network: ModuleType) -> None:
    sizes = {"latent": 2} if "generator" in network.__name__ else {}
    with pytest.raises(RequestError, match=r"a \w+ needs images \[C, H, W\], not rows of shape \[2\]; try mlp"):
        network.Network(network.Config(), Space((2,)), **sizes)
