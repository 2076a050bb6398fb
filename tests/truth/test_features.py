"""Which features are chosen, and InceptionV3's pieces against what is known of them."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from reverie.core.errors import RequestError
from reverie.data import DataConfig, open_data
from reverie.evaluation.features import inception
from reverie.evaluation.features.features import choose_features
from reverie.evaluation.features.inception import Inception, load_inception
from reverie.evaluation.features.resize import resized


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
