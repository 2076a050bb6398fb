"""The transformer, its places and its conditions, against what is known of them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from reverie.core.batch import Condition
from reverie.core.errors import RequestError
from reverie.core.space import Space
from reverie.maths.posteriors import Dirac
from reverie.nn.attention import _Attend, attend
from reverie.nn.control import Controllable
from reverie.nn.denoiser import dit, mlp, unet
from reverie.nn.embedding import grid_features
from reverie.nn.features import steered
from reverie.nn.patches import from_patches, patches
from reverie.nn.rotary import rotate, rotation
from reverie.nn.transformer import CrossAttention, SpatialTransformer
from reverie.samplers.guidance.free_control import features

CPU = torch.device("cpu")
TIMES = torch.tensor([0.2, 0.7])


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def woken(net):
    """The network with every parameter random, so that nothing is hidden behind a zero."""
    generator = torch.Generator().manual_seed(1)
    for p in net.parameters():
        p.data = p.data + 0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return net.eval()


def transformer(space, **options):
    torch.manual_seed(0)
    return dit.Network(dit.Config(**{"patch": 2, "width": 16, "depth": 3, "head_width": 8, **options}), space)


def small_unet(space, **options):
    torch.manual_seed(0)
    return unet.Network(
        unet.Config(**{"patch": 2, "width": 8, "multipliers": (1, 2), "head_width": 8, **options}), space
    )


def test_patches_are_squares_from_left_to_right():
    x = torch.arange(2 * 4 * 6, dtype=torch.float32).view(1, 2, 4, 6)
    h = patches(x, 2)
    assert h.shape == (1, 6, 8)
    assert h[0, 1].tolist() == [2, 3, 8, 9, 26, 27, 32, 33]  # the second square of the first row, channel by channel
    assert torch.equal(from_patches(h, 2, 4, 6), x)
    odd = randn(2, 3, 7, 5)
    assert torch.equal(from_patches(patches(odd, 4), 4, 7, 5), odd)


def test_blocks_start_as_the_identity():
    block = transformer(Space((1, 8, 8), sequence=5)).blocks[0]
    x, vector, sequence = (randn(2, n, w, dtype=torch.float32) for n, w in ((6, 16), (1, 16), (3, 5)))
    assert torch.equal(block(x, vector[:, 0], rotation(2, 3, 8, CPU), sequence), x)
    assert not torch.equal(woken(block)(x, vector[:, 0], rotation(2, 3, 8, CPU), sequence), x)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 6)])
def test_an_untrained_transformer_returns_zeros(shape):
    net = transformer(Space(shape, classes=3))
    x = randn(2, *shape, dtype=torch.float32)
    y = net(x, TIMES, Condition(label=torch.tensor([0, -1])))
    assert y.shape == x.shape
    assert not y.any()


def test_feature_maps_are_read_and_changed_from_outside():
    net, x = woken(transformer(Space((1, 8, 8)))), randn(2, 1, 8, 8, dtype=torch.float32)
    seen: dict[int, torch.Tensor] = {}
    with torch.no_grad(), steered(net, lambda k, h: seen.setdefault(k, h)):
        assert torch.equal(net(x, TIMES), net(x, TIMES))
    assert {k: tuple(h.shape) for k, h in seen.items()} == dict.fromkeys(range(3), (2, 16, 16))
    a, b = net.modulation(net.embedding(TIMES, None)).chunk(2, dim=1)
    last = net.head(torch.addcmul(b, F.layer_norm(seen[2][:, :, 5], (16,)), 1 + a))
    with torch.no_grad():
        torch.testing.assert_close(patches(net(x, TIMES), 2)[:, 5], last)
        with steered(net, lambda k, h: torch.zeros_like(h) if k == 2 else h):
            alike = patches(net(x, TIMES), 2)
    torch.testing.assert_close(alike, net.head(b)[:, None].expand_as(alike))  # nothing of the image is left


def test_a_network_that_sees_its_answer_has_its_blocks_features_once_those_of_the_last_pass():
    net = woken(transformer(Space((1, 8, 8)), self_conditioning=True))
    x = randn(2, 1, 8, 8, dtype=torch.float32)
    passes, outputs = [], []
    hook = net.blocks[2].register_forward_hook(lambda block, inputs, output: outputs.append(output.mT))
    with torch.no_grad(), steered(net, lambda k, h: passes.append(k) or h):
        net(x, TIMES)
    assert passes == [0, 1, 2, 0, 1, 2]

    class Denoiser:
        space = Space((1, 8, 8))

        def steered(self, change):
            return steered(net, change)

        def denoise(self, x_t, t, condition=None):
            return Dirac(net(x_t, t))

    outputs.clear()
    with torch.no_grad():
        found = features(Denoiser(), Denoiser(), x, TIMES, None)
    hook.remove()
    assert len(found) == 3
    assert torch.equal(found[2], outputs[1])
    assert not torch.equal(found[2], outputs[0])


def test_rotation_depends_on_relative_places_alone():
    q, k = randn(8), randn(8, seed=1)
    by = rotation(5, 7, 8, CPU)
    turned_q, turned_k = (rotate(part.expand(35, 8), by) for part in (q, k))
    scores = (turned_q @ turned_k.T).view(5, 7, 5, 7)  # [row, column, row, column]
    torch.testing.assert_close(scores[0, 0, 2, 3], scores[2, 3, 4, 6], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(scores[1, 6, 3, 2], scores[0, 5, 2, 1], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(scores[4, 4, 4, 4], q @ k, rtol=1e-6, atol=1e-6)
    assert (scores[0, 0, 2, 3] - scores[0, 0, 3, 2]).abs() > 1e-3, "down and right are told apart"
    assert (scores[0, 0, 2, 3] - scores[2, 3, 0, 0]).abs() > 1e-3, "and there and back"


def test_a_shift_of_places_changes_nothing_where_they_are_rotary():
    block = woken(transformer(Space((1, 8, 8))).blocks[0]).double()
    wide = rotation(9, 9, 8, CPU)
    x, vector = randn(1, 12, 16), randn(1, 16)

    def at(top, left):
        index = torch.tensor([(top + i) * 9 + left + j for i in range(3) for j in range(4)])
        return block(x, vector, type(wide)(wide.cos[index], wide.sin[index]), None)

    torch.testing.assert_close(at(0, 0), at(5, 3), rtol=1e-6, atol=1e-6)


def test_coordinates_stretch_to_other_sizes():
    known = grid_features((4, 6), (4, 6), 16, CPU)
    assert known.shape == (24, 16)
    # Row 1, column 2 by hand: cosines, then sines, of the row, then of the column; frequencies 1, 0.1, 0.01, 0.001.
    w = torch.tensor([1.0, 0.1, 0.01, 0.001])
    expected = torch.cat([torch.cos(w), torch.sin(w), torch.cos(2 * w), torch.sin(2 * w)])
    torch.testing.assert_close(known[1 * 6 + 2], expected)
    # On a grid of three times the side, every third place from the second one is a place of the known grid.
    finer = grid_features((12, 18), (4, 6), 16, CPU).view(12, 18, 16)
    torch.testing.assert_close(finer[1::3, 1::3].flatten(0, 1), known)


@pytest.mark.parametrize("positions", ["sincos", "rotary", "both"])
def test_a_transformer_takes_images_of_other_sizes(positions):
    net = woken(transformer(Space((1, 8, 8)), positions=positions))
    for height, width in ((8, 8), (12, 10), (5, 16)):
        x = randn(2, 1, height, width, dtype=torch.float32)
        y = net(x, TIMES)
        assert y.shape == x.shape
        assert not torch.allclose(y, net(x.roll(2, 3), TIMES).roll(-2, 3), atol=1e-4), "it must know its places"


def test_attention_to_a_longer_sequence_equals_torch():
    q, k, v = randn(2, 3, 5, 4).requires_grad_(), randn(2, 3, 7, 4, seed=1), randn(2, 3, 7, 4, seed=2)
    k.requires_grad_(), v.requires_grad_()
    expected = F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(_Attend.apply(*(p.flatten(0, 1) for p in (q, k, v))).view(expected.shape), expected)
    upstream = randn(*expected.shape, seed=3)
    ours = torch.autograd.grad(_Attend.apply(*(p.flatten(0, 1) for p in (q, k, v))), (q, k, v), upstream.flatten(0, 1))
    for a, b in zip(ours, torch.autograd.grad(expected, (q, k, v), upstream), strict=True):
        torch.testing.assert_close(a, b)
    low = [p.detach().bfloat16().requires_grad_() for p in (q, k, v)]
    assert (attend(*low).double() - expected).norm() < 0.02 * expected.norm()


def test_attention_to_one_element_is_linear_in_it():
    layer = CrossAttention(8, 5, 4).double()
    x, y = randn(2, 6, 8), randn(2, 1, 5, seed=1)
    value = y @ layer.kv.weight[8:].T  # softmax over one element is 1: what x is does not matter
    torch.testing.assert_close(layer(x, y), (value @ layer.out.weight.T + layer.out.bias).expand(2, 6, 8))


def test_the_spatial_transformer_is_the_table_of_latent_diffusion():
    block = SpatialTransformer(20, 5, head_width=8, depth=2).double()
    x, y = randn(2, 20, 3, 4), randn(2, 6, 5, seed=1)
    assert torch.equal(block(x, y), x), "it starts as the identity"
    woken(block)
    # The same in the table's own words: LayerNorm over c, 1 × 1 convolutions, reshapes, T layers.
    h = F.layer_norm(x.permute(0, 2, 3, 1), (20,), block.norm.weight, block.norm.bias).permute(0, 3, 1, 2)
    h = F.conv2d(h, block.enter.weight[:, :, None, None], block.enter.bias)  # [B, d n_h, h, w]
    assert h.shape[1] == 16, "d n_h: two heads of 8 in 20 channels"
    h = h.flatten(2).transpose(1, 2)
    assert len(block.layers) == 2
    for layer in block.layers:
        h = h + layer.attention(layer.norm_1(h))
        h = h + layer.perceptron(layer.norm_2(h))
        h = h + layer.cross(layer.norm_3(h), y)
    h = h.transpose(1, 2).unflatten(2, (3, 4))
    torch.testing.assert_close(block(x, y), x + F.conv2d(h, block.leave.weight[:, :, None, None], block.leave.bias))


def networks(space):
    return {"unet": woken(small_unet(space)), "dit": woken(transformer(space))}


@pytest.mark.parametrize("name", ["unet", "dit"])
def test_a_map_with_no_weights_is_no_map(name):
    plain, mapped = (networks(Space((1, 8, 8), maps=maps))[name] for maps in (0, 2))
    weights = plain.state_dict()
    stem = mapped.stem.weight.data
    # Of each square, the image's own values come first.
    stem.zero_()[:, : weights["stem.weight"].shape[1]] = weights["stem.weight"]
    mapped.load_state_dict({**weights, "stem.weight": stem})
    x = randn(2, 1, 8, 8, dtype=torch.float32)
    given = Condition(image=randn(2, 2, 8, 8, seed=1, dtype=torch.float32))
    torch.testing.assert_close(mapped(x, TIMES, given), plain(x, TIMES))
    torch.testing.assert_close(mapped(x, TIMES), plain(x, TIMES))
    stem.normal_(generator=torch.Generator().manual_seed(3))
    assert not torch.allclose(mapped(x, TIMES, given), mapped(x, TIMES))
    zero = Condition(image=torch.zeros(2, 2, 8, 8))
    assert torch.equal(mapped(x, TIMES, zero), mapped(x, TIMES)), "an unknown map is one of zeros"
    # A map of another size is taken to the image's: a plain one stays as it is.
    plain_map = torch.full((2, 2, 4, 4), 0.3)
    torch.testing.assert_close(
        mapped(x, TIMES, Condition(image=plain_map)), mapped(x, TIMES, Condition(image=torch.full((2, 2, 8, 8), 0.3)))
    )
    with pytest.raises(RequestError, match="trained on maps of 2"):
        mapped(x, TIMES, Condition(image=plain_map[:, :1]))


@pytest.mark.parametrize("name", ["unet", "dit"])
def test_each_row_hears_its_own_sequence(name):
    net = networks(Space((1, 8, 8), sequence=5))[name]
    x, sequence = randn(2, 1, 8, 8, dtype=torch.float32), randn(2, 3, 5, seed=1, dtype=torch.float32)
    y = net(x, TIMES, Condition(sequence=sequence))
    other = sequence.clone()
    other[1] += 1.0
    changed = net(x, TIMES, Condition(sequence=other))
    torch.testing.assert_close(changed[0], y[0])
    assert not torch.allclose(changed[1], y[1], atol=1e-4)
    # Attention has no order: elements that are swapped are the same set.
    torch.testing.assert_close(net(x, TIMES, Condition(sequence=sequence.flip(1))), y, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(net(x, TIMES), y, atol=1e-4)
    with pytest.raises(RequestError, match="elements of 4"):
        net(x, TIMES, Condition(sequence=sequence[..., :4]))


@pytest.mark.parametrize("build", [small_unet, transformer])
def test_the_switch(build):
    space = Space((1, 8, 8), maps=2, sequence=5)
    x = randn(2, 1, 8, 8, dtype=torch.float32)
    given = Condition(image=randn(2, 2, 8, 8, dtype=torch.float32), sequence=randn(2, 3, 5, dtype=torch.float32))
    image, sequence = Condition(image=given.image), Condition(sequence=given.sequence)
    for switch, hears in {
        "none": (False, False),
        "concatenation": (True, False),
        "cross-attention": (False, True),
        "hybrid": (True, True),
        "auto": (True, True),
    }.items():
        net = woken(build(space, condition=switch))
        heard = tuple(not torch.allclose(net(x, TIMES, c), net(x, TIMES), atol=1e-5) for c in (image, sequence))
        assert heard == hears, switch
    for switch, lacks in {"concatenation": "map", "cross-attention": "sequence", "hybrid": "map"}.items():
        with pytest.raises(RequestError, match=f"come with a {lacks}"):
            build(Space((1, 8, 8)), condition=switch)


@pytest.mark.parametrize("make", [small_unet, transformer])
def test_self_conditioning_shows_the_network_its_first_answer(make):
    net = woken(make(Space((1, 8, 8)), self_conditioning=True))
    x, nothing = randn(2, 1, 8, 8, dtype=torch.float32), torch.zeros(2, 1, 8, 8)
    first = net._answer(torch.cat([x, nothing], 1), TIMES, None, ())
    torch.testing.assert_close(net(x, TIMES), net._answer(torch.cat([x, first], 1), TIMES, None, ()))
    net.train()
    torch.manual_seed(0)
    rows = net(x.repeat(32, 1, 1, 1), TIMES.repeat(32))
    second = net.eval()(x, TIMES)
    shown = [bool(torch.allclose(row, second[i % 2], atol=1e-5)) for i, row in enumerate(rows)]
    blind = [bool(torch.allclose(row, first[i % 2], atol=1e-5)) for i, row in enumerate(rows)]
    assert all(a != b for a, b in zip(shown, blind, strict=True))
    assert 16 <= sum(shown) <= 48


@pytest.mark.parametrize("make", [small_unet, transformer])
def test_self_conditioning_goes_with_maps_and_control(make):
    """In the stem's weights, which see squares of the image, of the first answer and of the map in this order."""
    net = woken(make(Space((1, 8, 8), maps=2), self_conditioning=True)).train()
    x, image = randn(8, 1, 8, 8, dtype=torch.float32), randn(8, 2, 8, 8, dtype=torch.float32)
    branch = net.control(2)
    assert not any(residual.any() for residual in branch(x, TIMES.repeat(4), Condition(image=image)))
    torch.manual_seed(0)
    net(x, TIMES.repeat(4), Condition(image=image)).square().sum().backward()
    gradient = net.stem.weight.grad.flatten(2).norm(dim=2) if net.stem.weight.ndim == 4 else net.stem.weight.grad
    assert gradient.shape[1] == 4 * (1 + 1 + 2)
    assert bool((gradient.norm(dim=0) > 0).all())
    other = net.eval()(x, TIMES.repeat(4), Condition(image=-image))
    assert not torch.allclose(other, net(x, TIMES.repeat(4), Condition(image=image)))
    assert not torch.allclose(other[:, :, 1:], net(x, TIMES.repeat(4))[:, :, 1:])


@pytest.mark.parametrize("name", ["unet", "dit"])
def test_a_branch_starts_without_effect_and_then_has_one(name):
    net = networks(Space((1, 9, 8), classes=3))[name]
    assert isinstance(net, Controllable)
    branch = net.control(2)
    x = randn(2, 1, 9, 8, dtype=torch.float32)
    given = Condition(label=torch.tensor([1, 2]), image=randn(2, 2, 9, 8, dtype=torch.float32))
    residuals = branch(x, TIMES, given)
    assert len(residuals) == {"unet": 3, "dit": 2}[name]
    assert not any(r.any() for r in residuals)
    plain = net(x, TIMES, given)
    assert torch.equal(net(x, TIMES, given, residuals), plain)
    woken(branch)
    for k in range(len(residuals)):  # each of them reaches the output
        one = [r if i == k else torch.zeros_like(r) for i, r in enumerate(branch(x, TIMES, given))]
        assert not torch.allclose(net(x, TIMES, given, one), plain, atol=1e-5)


@pytest.mark.parametrize("network", [unet, dit])
def test_an_image_is_at_least_one_patch(network):
    network.Network(network.Config(patch=8), Space((1, 8, 12)))
    with pytest.raises(RequestError, match="patch = 9 is more than the 8 × 12 pixels"):
        network.Network(network.Config(patch=9), Space((1, 8, 12)))


def test_points_are_conditioned_by_concatenation():
    net = woken(mlp.Network(mlp.Config(width=16), Space((2,), maps=3)))
    x, seen = randn(2, 2, dtype=torch.float32), randn(2, 3, dtype=torch.float32)
    assert not torch.allclose(net(x, TIMES, Condition(image=seen)), net(x, TIMES))
    assert torch.equal(net(x, TIMES, Condition(image=torch.zeros(2, 3))), net(x, TIMES))
    assert not isinstance(net, Controllable)
