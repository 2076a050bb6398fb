"""Which features are chosen, and InceptionV3's pieces against what is known of them."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image

from reverie.core.errors import RequestError
from reverie.data import DataConfig, open_data
from reverie.evaluation.features import inception
from reverie.evaluation.features.features import choose_features
from reverie.evaluation.features.inception import Inception, load_inception
from reverie.evaluation.features.lite0 import PACKAGE, Lite0, SameConv, load_lite0, own_names
from reverie.evaluation.features.resize import resized
from reverie.evaluation.features.stacked import StackedClassifier, digits_of


def silent(line: str) -> None:
    return None


def test_names_that_are_wrong_or_do_not_suit(tmp_path: Path) -> None:
    digits, moons = open_data(DataConfig(source="digits")), open_data(DataConfig(source="moons"))
    with pytest.raises(RequestError, match="did you mean 'inception'"):
        choose_features(digits, tmp_path, silent, "inceptoin")
    with pytest.raises(RequestError, match="points are their own"):
        choose_features(moons, tmp_path, silent, "inception")
    with pytest.raises(RequestError, match="no file"):
        choose_features(digits, tmp_path, silent, f"inception:{tmp_path / 'none.pth'}")
    assert choose_features(digits, tmp_path, silent, "random").key == "random 1x28x28"


def test_resizing_holds_constants_and_has_no_aliases() -> None:
    flat = torch.full((1, 3, 64, 64), 0.3)
    assert torch.allclose(resized(flat, 20), torch.full((1, 3, 20, 20), 0.3), atol=1e-6)
    board = (torch.arange(64)[:, None] + torch.arange(64)).remainder(2).float().expand(1, 3, 64, 64) * 2 - 1
    assert resized(board, 16)[..., 2:-2, 2:-2].abs().max() < 0.05  # grey: its detail does not fit
    assert F.interpolate(board, size=(21, 21), mode="bilinear").abs().max() > 0.9  # what must not be done
    assert resized(torch.zeros(1, 1, 8, 8), 8).shape == (1, 3, 8, 8)


def test_pools_do_not_count_padding() -> None:
    x = torch.ones(1, 1, 4, 4)
    assert torch.equal(inception._average(x), x)
    assert F.avg_pool2d(x, 3, 1, 1)[0, 0, 0, 0] == pytest.approx(4 / 9)


def test_same_padding_is_tensorflows() -> None:
    """Of six columns under a kernel of three at stride two, the windows begin at 0, 2 and 4: one more on the right."""
    conv = SameConv(1, 1, 3, stride=2)
    with torch.no_grad():
        conv.weight.fill_(1.0)
        found = conv(torch.arange(6.0).expand(1, 1, 6, 6))
    assert found.shape == (1, 1, 3, 3)
    assert found[0, 0, 0].tolist() == [3 * (0 + 1 + 2), 3 * (2 + 3 + 4), 3 * (4 + 5)]
    with torch.no_grad():
        assert SameConv(1, 1, 5, stride=1)(torch.zeros(1, 1, 7, 4)).shape == (1, 1, 7, 4)


def test_lite0_has_the_published_size() -> None:
    """4,652,008 weights, as the table of the published checkpoints says; 49 convolutions and a linear layer."""
    network = Lite0().eval()
    assert sum(p.numel() for p in network.parameters()) == 4_652_008
    assert sum(isinstance(m, torch.nn.Conv2d) for m in network.modules()) == 49
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        assert torch.allclose(network(x), network.features(x) @ network.fc.weight.T + network.fc.bias, atol=1e-6)
    assert own_names({"_blocks.0._bn1.weight": x}) == {"blocks.0.bn1.weight": x}


@pytest.mark.skipif(find_spec(PACKAGE) is None, reason="the package of weights is not installed")
def test_lite0_knows_what_a_photograph_shows(tmp_path: Path) -> None:
    image = Image.fromarray(load_sample_image("flower.jpg")).crop((100, 0, 527, 427)).resize((224, 224))
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
    network = load_lite0()
    assert int(network(x).argmax()) == 985  # daisy, the nearest to a dahlia that ImageNet has
    moons = open_data(DataConfig(source="digits"))
    assert choose_features(moons, tmp_path, silent, "imagenet").size == 1280


def test_stacked_digits_are_told_apart_channel_by_channel() -> None:
    """A digit's network that looks at the mean of a channel; logits of the triple are the sum of the three's."""

    class Digit:
        accuracy = 1.0

        def features(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((1, 2, 3))[:, None]

        def logits(self, features: torch.Tensor) -> torch.Tensor:
            return -(features - torch.arange(10.0)).square()

    classifier = StackedClassifier(Digit(), 1.0)  # type: ignore[arg-type]
    x = torch.tensor([[7.0, 0.0, 2.0], [9.0, 9.0, 9.0], [0.0, 4.0, 5.0]])[:, :, None, None].expand(-1, -1, 8, 8)
    features = classifier.features(x)
    assert features.tolist() == [[7, 0, 2], [9, 9, 9], [0, 4, 5]]
    logits = classifier.logits(features)
    assert logits.argmax(1).tolist() == [702, 999, 45]
    assert torch.allclose(logits.exp().sum(1), torch.ones(3))
    assert (digits_of("digits"), digits_of("stacked-digits"), digits_of("stacked-digits:a:b")) == (
        None,
        "digits",
        "a:b",
    )


def test_a_folder_without_a_network_is_told(tmp_path: Path) -> None:
    digits = open_data(DataConfig(source="digits"))
    with pytest.raises(RequestError, match=r"needs a folder with config\.json"):
        choose_features(digits, tmp_path, silent, f"pretrained:{tmp_path}")
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(RequestError, match=r"does not hold a network|pip install '.\[pretrained\]'"):
        choose_features(digits, tmp_path, silent, f"pretrained:{tmp_path}")


def test_the_networks_size_and_its_file(tmp_path: Path) -> None:
    """94 convolutions and 23.9 million weights, as published; a saved file gives the same features."""
    torch.manual_seed(0)
    network = Inception().eval()
    assert sum(isinstance(m, torch.nn.Conv2d) for m in network.modules()) == 94
    published = 23_834_568 + 8 * (2048 + 1)  # 1000 logits there, 1008 here
    trunk = sum(p.numel() for n, p in network.named_parameters() if not n.startswith("fc."))
    assert trunk == published - 1008 * (2048 + 1)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    again = load_inception(str(tmp_path / "weights.safetensors"), tmp_path)
    x = torch.rand(1, 3, 299, 299) * 2 - 1
    assert network.features(x).shape == (1, 2048)
    assert torch.equal(network.features(x), again.features(x))
    assert torch.allclose(again(x), again.features(x) @ again.fc.weight.T)
    (tmp_path / "other.safetensors").write_bytes(b"no weights")
    with pytest.raises(RequestError, match="does not hold the weights"):
        load_inception(str(tmp_path / "other.safetensors"), tmp_path)
