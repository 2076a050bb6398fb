"""Our InceptionV3 beside torch-fidelity's, with the same random weights on the same images, and how fast it is.

    python benchmarks/features.py

Needs torch-fidelity (which imports torchvision: where that cannot be installed, a stand-in of that name serves, since
its InceptionV3 does not use it). Writes ``benchmarks/results/features.json``.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import torch
import torch_fidelity
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from reverie.evaluation.features.inception import Inception

RESULTS = Path(__file__).with_name("results") / "features.json"
BATCH = 8


def main() -> None:
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
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
