"""The denoisers against torch's own operations in float64, and what their protocol promises."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call, jvp

from reverie.core.batch import Condition
from reverie.core.errors import RequestError
from reverie.core.space import Space
from reverie.nn import norm
from reverie.nn.attention import SelfAttention, _Attend, attend
from reverie.nn.denoiser import mlp, unet
from reverie.nn.embedding import fourier_features
from reverie.nn.norm import GroupNorm, norm_act


def randn(*shape, seed=0, dtype=torch.float64, grad=False):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_(grad)


def woken(net):
    """The network with every parameter random, so that nothing is hidden behind a zero."""
    generator = torch.Generator().manual_seed(1)
    for p in net.parameters():
        p.data = p.data + 0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return net


def small(space, **options):
    torch.manual_seed(0)
    plain = {"patch": 1, "blocks_up": None, "width": 8, "multipliers": (1, 2)}
    return woken(unet.Network(unet.Config(**{**plain, **options}), space)).eval()


def test_patches_are_channels_of_a_smaller_image():
    whole = small(Space((1, 10, 14)), patch=2)
    parts = small(Space((4, 5, 7)))
    parts.load_state_dict(whole.state_dict())
    x, t = randn(2, 1, 10, 14, dtype=torch.float32), torch.tensor([0.2, 0.7])
    expected = F.pixel_shuffle(parts(F.pixel_unshuffle(x, 2), t), 2)
    torch.testing.assert_close(whole(x, t), expected)
    # Sides that do not divide see zeros beyond the edge, and nothing of what is drawn there comes back.
    torch.testing.assert_close(whole(x[..., :9, :13], t), whole(F.pad(x[..., :9, :13], (0, 1, 0, 1)), t)[..., :9, :13])


@pytest.mark.parametrize(("channels", "heads"), [(32, 1), (96, 3), (100, 2), (127, 1), (175, 5)])
def test_any_width_divides_into_heads(channels, heads):
    """The most heads of at least 32 channels that divide it: of 100, two, as three do not; of a prime, one."""
    attention = SelfAttention(channels)
    assert attention.heads == heads
    assert attention(randn(2, channels, 3, 3, dtype=torch.float32)).shape == (2, channels, 3, 3)


def test_a_network_of_a_width_that_is_no_multiple_of_a_heads():
    net = unet.Network(unet.Config(width=50), Space((1, 8, 8)))
    assert net(randn(2, 1, 8, 8, dtype=torch.float32), torch.tensor([0.2, 0.7])).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("activate", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_norm_equals_torch(activate, layout):
    x = randn(3, 12, 4, 5).mul(3).add(1).contiguous(memory_format=layout).requires_grad_()
    layer = GroupNorm(12, activate).double()
    layer.groups = 3
    with torch.no_grad():
        layer.weight.copy_(randn(12, seed=1))
        layer.bias.copy_(randn(12, seed=2))
    scale, shift = randn(3, 12, seed=3, grad=True), randn(3, 12, seed=4, grad=True)
    upstream = randn(3, 12, 4, 5, seed=5)
    leaves = (x, scale, shift, layer.weight, layer.bias)

    y = layer(x, scale, shift)
    z = F.group_norm(x, 3, layer.weight, layer.bias, 1e-5) * (1 + scale[..., None, None]) + shift[..., None, None]
    expected = F.silu(z) if activate else z

    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, scale, shift), expected, rtol=1e-12, atol=1e-12)
    ours = torch.autograd.grad(y, leaves, upstream)
    theirs = torch.autograd.grad(expected, leaves, upstream)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)


def test_norm_derivatives():
    x = randn(2, 6, 2, 3).contiguous(memory_format=torch.channels_last).requires_grad_()
    inputs = (x, randn(2, 6, seed=1, grad=True), randn(2, 6, seed=2, grad=True))

    def normed(x, scale, shift):
        return norm_act(x, scale, shift, 3, True)

    assert torch.autograd.gradcheck(normed, inputs)
    assert torch.autograd.gradgradcheck(normed, inputs)


@pytest.mark.parametrize("side", [8, 32])
def test_norm_in_bfloat16(side):
    # Both of torch's kernels: 32 x 32 is on the far side of 1024 places. Values reach 5, bfloat16 has 8 bits.
    x = (2 * randn(2, 16, side, side, dtype=torch.float32) + 1).contiguous(memory_format=torch.channels_last)
    scale, shift = 1 + 0.1 * randn(2, 16, dtype=torch.float32), randn(2, 16, seed=1, dtype=torch.float32)
    upstream = randn(*x.shape, seed=2, dtype=torch.float32)

    def run(x, dtype):
        leaves = [x.to(dtype).requires_grad_(), scale.clone().requires_grad_(), shift.clone().requires_grad_()]
        y = norm_act(*leaves, 2, True)
        return [y.double(), *(g.double() for g in torch.autograd.grad(y, leaves, upstream.to(dtype)))]

    x = x.bfloat16().float()
    for low, high in zip(run(x, torch.bfloat16), run(x, torch.float64), strict=True):
        assert (low - high).norm() <= 0.01 * high.norm()


def test_attention_equals_torch():
    q, k, v = (randn(2, 3, 10, 4, seed=i, grad=True) for i in range(3))
    flat = [part.flatten(0, 1) for part in (q, k, v)]
    upstream = randn(6, 10, 4, seed=3)
    y, expected = _Attend.apply(*flat), F.scaled_dot_product_attention(*flat)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad(y, (q, k, v), upstream), torch.autograd.grad(expected, (q, k, v), upstream), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_attention_derivatives_and_chunks(monkeypatch):
    monkeypatch.setattr("reverie.nn.attention.CHUNK", 2 * 4 * 4)  # three rows in two chunks
    inputs = tuple(randn(3, 4, 2, seed=i, grad=True) for i in range(3))
    assert torch.autograd.gradcheck(_Attend.apply, inputs)
    assert torch.autograd.gradgradcheck(_Attend.apply, inputs)


def test_attention_in_bfloat16():
    q, k, v = (randn(2, 2, 64, 8, seed=i, dtype=torch.bfloat16, grad=True) for i in range(3))
    high = [part.detach().double().requires_grad_() for part in (q, k, v)]
    y, expected = attend(q, k, v), F.scaled_dot_product_attention(*high)
    ours, theirs = torch.autograd.grad(y.sum(), (q, k, v)), torch.autograd.grad(expected.sum(), high)
    assert (y.double() - expected).norm() <= 0.02 * expected.norm()
    for a, b in zip(ours[2:], theirs[2:], strict=True):
        assert (a.double() - b).norm() <= 0.02 * b.norm()


def test_attention_knows_no_order():
    torch.manual_seed(0)
    layer = woken(SelfAttention(16, 8).double())
    x = randn(2, 16, 3, 5)
    order = torch.randperm(15, generator=torch.Generator().manual_seed(2))
    shuffled = x.flatten(2)[:, :, order].view_as(x)
    torch.testing.assert_close(layer(shuffled).flatten(2), layer(x).flatten(2)[:, :, order], rtol=1e-9, atol=1e-9)


def test_fourier_features_are_those_of_ddpm():
    # Position 500 of 1000 with 6 features: frequencies 1, 10000^(-1/3), 10000^(-2/3).
    angles = torch.tensor([500.0, 500 * 10000 ** (-1 / 3), 500 * 10000 ** (-2 / 3)])
    expected = torch.cat([angles.cos(), angles.sin()])
    torch.testing.assert_close(fourier_features(torch.tensor([0.5]), 6)[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 30, 33), (4, 8, 11)])
def test_unet_sizes_and_zero_at_init(shape):
    torch.manual_seed(0)
    net = unet.Network(unet.Config(width=16), Space(shape, classes=3))
    x = randn(2, *shape, dtype=torch.float32)
    y = net(x, torch.tensor([0.1, 0.9]), Condition(label=torch.tensor([0, -1])))
    assert y.shape == x.shape
    assert torch.equal(y, torch.zeros_like(x))


def test_auto_levels():
    assert unet.auto_multipliers(28, 28) == (1, 2, 2)
    assert unet.auto_multipliers(32, 32) == (1, 2, 2)
    assert len(unet.auto_multipliers(64, 64)) == 4
    assert len(unet.auto_multipliers(8, 40)) == 1


def test_upsampling_keeps_places():
    # Nearest neighbours, cropped: pixel i comes from pixel i // 2, for odd sides too.
    from reverie.nn.resnet import Upsample

    layer = Upsample(1, 1)
    torch.nn.init.dirac_(layer.conv.weight)
    torch.nn.init.zeros_(layer.conv.bias)
    y = layer(torch.arange(12.0).view(1, 1, 3, 4), 5, 7)
    expected = 4 * (torch.arange(5) // 2)[:, None] + torch.arange(7) // 2
    assert torch.equal(y[0, 0], expected.float())


@pytest.mark.parametrize("kind", ["unet", "mlp"])
def test_protocol(kind):
    space = Space((2, 9, 12) if kind == "unet" else (2,), classes=4)
    torch.manual_seed(0)
    net = small(space, attention=(6,)) if kind == "unet" else woken(mlp.Network(mlp.Config(width=32), space))
    net = net.double()
    x, t = randn(3, *space.shape), torch.tensor([0.1, 0.5, 0.9]).double()
    label = torch.tensor([2, -1, 0])
    y = net(x, t, Condition(label=label))

    # Rows do not see each other.
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(net(x[order], t[order], Condition(label=label[order])), y[order], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(net(x[:1], t[:1], Condition(label=label[:1])), y[:1], rtol=1e-9, atol=1e-9)
    # No label, no condition and -1 are one thing; another label, another time are not.
    dropped = net(x, t, Condition(label=torch.full_like(label, -1)))
    assert torch.equal(net(x, t), dropped)
    assert torch.equal(net(x, t, Condition()), dropped)
    assert torch.equal(y[1], dropped[1])
    for known in range(4):
        y = net(x, t, Condition(label=torch.full_like(label, known)))
        assert ((y - dropped).flatten(1).norm(dim=1) > 1e-3 * y.flatten(1).norm(dim=1)).all()
    assert (net(x, t + 0.01) - dropped).norm() > 1e-4 * dropped.norm()


def test_residuals_add_to_skips():
    net = small(Space((1, 9, 8))).double()
    x, t = randn(2, 1, 9, 8), torch.tensor([0.2, 0.7]).double()
    _, skips = net.encode(x, net.embedding(t, None))
    zeros = [torch.zeros_like(skip) for level in skips for skip in level]
    y = net(x, t)
    assert torch.equal(net(x, t, residuals=zeros), y)
    for k in range(len(zeros)):
        assert not torch.equal(net(x, t, residuals=[z + (i == k) for i, z in enumerate(zeros)]), y)


def test_derivatives_of_the_unet(monkeypatch):
    # The hand-written gradients against the same network in torch's operations, and forward mode against differences.
    net = small(Space((1, 8, 8)), attention=(8,)).double()
    x, t = randn(1, 1, 8, 8, grad=True), torch.tensor([0.3]).double()
    inputs = (x, *net.parameters())
    ours = torch.autograd.grad(net(x, t).square().sum(), inputs, allow_unused=True)
    step = randn(1, 1, 8, 8, seed=3)
    _, forward = jvp(lambda x: functional_call(net, {}, (x, t)), (x.detach(),), (step,))
    differences = (net(x + 1e-6 * step, t) - net(x - 1e-6 * step, t)) / 2e-6
    torch.testing.assert_close(forward, differences, rtol=1e-6, atol=1e-8)

    monkeypatch.setattr(norm, "only_first_derivatives", lambda: False)
    theirs = torch.autograd.grad(net(x, t).square().sum(), inputs, allow_unused=True)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_wrong_requests():
    with pytest.raises(RequestError, match="mlp"):
        unet.Network(unet.Config(), Space((2,)))
    with pytest.raises(RequestError, match="blocks_up"):
        unet.Network(unet.Config(blocks=1, blocks_up=3), Space((1, 8, 8)))
    with pytest.raises(RequestError, match="did you mean 'width'"):
        unet.Config.read({"widht": 8}, "model.network")
