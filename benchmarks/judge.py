"""The judge of digits: a classifier of at least 99.5 % on MNIST's test file, trained once, apart from the package.

    python benchmarks/judge.py [--mnist FOLDER]     trains it where that was not done before
    python benchmarks/judge.py samples.npz          judges samples (from `reverie sample RUN -n 10000 -o samples.npz`)

No model is ever trained on its features or chosen by them. Its weights are kept in the cache folder.

References:
    | Gradient-Based Learning Applied to Document Recognition (LeCun, Bottou, Bengio and Haffner, 1998)
    | https://doi.org/10.1109/5.726791
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reverie.core.device import autocast
from reverie.core.noise import KeyedNoise
from reverie.data import DataConfig, Rows, open_data
from reverie.data.cache import cache_folder
from reverie.evaluation.coverage import coverage
from reverie.evaluation.recognition import class_shares, confident, recognised

VERSION = 1
EPOCHS, BATCH, RATE = 6, 128, 6e-3
MNIST = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"


class Judge(nn.Module):
    """Creates the judge: five convolutions, 128 features, ten logits."""

    def __init__(self) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, size: int, stride: int = 1) -> list[nn.Module]:
            conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
            return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]

        self.body = nn.Sequential(
            *block(1, 32, 5, 2),
            *block(32, 64, 3),
            nn.MaxPool2d(2),
            *block(64, 128, 3),
            *block(128, 128, 3),
            nn.MaxPool2d(2),
        )
        self.hidden = nn.Linear(128 * 9, 128)
        self.out = nn.Linear(128, 10)

    def features(self, x: Tensor) -> Tensor:
        """Returns features ``[B, 128]`` of digits ``[B, 1, 28, 28]`` in [-1, 1]."""
        return F.relu(self.hidden(self.body(x).flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.dropout(self.features(x), 0.3, self.training))


def augmented(x: Tensor, noise: KeyedNoise) -> Tensor:
    """Digits turned by up to 12 degrees, scaled and sheared by up to a tenth, moved by up to two pixels."""
    angle, sx, sy, shear, dx, dy = (noise.uniform(6) * 2 - 1).unbind(1)
    angle, shear = angle * math.radians(12), shear * 0.15
    sx, sy, dx, dy = 1 + 0.1 * sx, 1 + 0.1 * sy, dx * 4 / 28, dy * 4 / 28
    first = torch.stack([angle.cos() / sx, (shear - angle.sin()) / sx, dx], 1)
    second = torch.stack([angle.sin() / sy, angle.cos() / sy, dy], 1)
    grid = F.affine_grid(torch.stack([first, second], 1), list(x.shape), align_corners=False)
    return F.grid_sample(x + 1, grid, align_corners=False) - 1  # what comes in from outside is black


def train(rows: Rows, epochs: int = EPOCHS) -> Judge:
    """Trains the judge: AdamW, one cycle, and the average of the last weights; bf16 where fast."""
    torch.manual_seed(0)
    judge = Judge().to(memory_format=torch.channels_last)
    averaged = torch.optim.swa_utils.AveragedModel(
        judge, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998), use_buffers=True
    )
    steps = len(rows) // BATCH
    optimizer = torch.optim.AdamW(judge.parameters(), lr=RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * steps, pct_start=0.2)
    order = np.random.Generator(np.random.Philox(0))
    judge.train()
    for epoch in range(epochs):
        begun = time.perf_counter()
        places = order.permutation(len(rows))
        for step in range(steps):
            index = places[step * BATCH : (step + 1) * BATCH]
            x, condition = rows.take(index)
            ids = torch.arange(BATCH) + (epoch * steps + step) * BATCH
            with autocast(torch.device("cpu"), "auto"):
                logits = judge(augmented(x, KeyedNoise(0, ids, "judge")).contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits.float(), condition.label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            averaged.update_parameters(judge)
        print(
            f"judge: epoch {epoch + 1} of {epochs}, loss {loss.item():.3f}, {time.perf_counter() - begun:.0f} s",
            flush=True,
        )
    return averaged.module.eval()


@torch.no_grad()
def look(judge: Judge, x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns features ``[B, 128]`` and logits ``[B, 10]``, in float32, a block at a time."""
    features = torch.cat([judge.features(block) for block in x.split(500)])
    return features, judge.out(features)


def rows_of(rows: Rows, count: int | None = None) -> tuple[Tensor, Tensor]:
    """The first rows of a data set and their labels."""
    index = np.arange(len(rows) if count is None else min(count, len(rows)))
    x, _ = rows.take(index)
    assert rows.labels is not None
    return x, torch.from_numpy(rows.labels[index])


def load_judge(mnist: Path = MNIST) -> tuple[Judge, float]:
    """The judge and its accuracy on MNIST's test file: from the cache, or trained now."""
    file = cache_folder() / "judge" / f"mnist-{VERSION}.safetensors"
    judge = Judge().eval()
    if not file.is_file():
        data = open_data(DataConfig(source=str(mnist)))
        judge = train(data.train)
        x, labels = rows_of(data.held_out)
        accuracy = recognised(look(judge, x)[1], labels)
        file.parent.mkdir(parents=True, exist_ok=True)
        weights = {k: v.contiguous() for k, v in judge.state_dict().items()}
        save_file(weights, file, {"accuracy": repr(accuracy)})
    judge.load_state_dict(load_file(file))
    with safe_open(file, framework="pt") as header:
        return judge, float(header.metadata()["accuracy"])


class Court:
    """The judge with the real digits that samples are held against.

    Arguments:
        mnist: the folder of MNIST's files. Reference rows are those of the built-in ``digits``, which models are
            trained on; held-out digits are MNIST's test file.
    """

    def __init__(self, mnist: Path = MNIST) -> None:
        self.judge, self.accuracy = load_judge(mnist)
        self.reference, _ = look(self.judge, rows_of(open_data(DataConfig(source="digits")).train)[0])
        self.real = self.measure(*rows_of(open_data(DataConfig(source=str(mnist))).held_out))

    def measure(self, x: Tensor, labels: Tensor) -> dict[str, Any]:
        """What the judge says of digits ``[B, 1, 28, 28]`` in [-1, 1] with labels ``[B]``, -1 for none."""
        features, logits = look(self.judge, x)
        shares = class_shares(logits)
        found = {
            "count": len(x),
            "shares": [round(share, 4) for share in shares.tolist()],
            "smallest_share": float(shares.min()),
            "confident": confident(logits),
            "coverage": coverage(self.reference, features).coverage.value,
        }
        return found | ({"recognised": recognised(logits, labels)} if (labels >= 0).any() else {})

    def relative(self, found: dict[str, Any]) -> dict[str, float]:
        """Coverage and confidence as a part of what real held-out digits reach."""
        return {f"{name}_of_real": found[name] / self.real[name] for name in ("coverage", "confident")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", nargs="?", type=Path, help="an .npz file with images and labels")
    parser.add_argument("--mnist", type=Path, default=MNIST)
    asked = parser.parse_args()
    court = Court(asked.mnist)
    print(f"judge: {court.accuracy:.2%} of MNIST's test file; real held-out digits: {json.dumps(court.real)}")
    if asked.samples:
        with np.load(asked.samples) as arrays:
            images, labels = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"])
        found = court.measure(images.permute(0, 3, 1, 2).float() / 127.5 - 1, labels)
        print(json.dumps(found | court.relative(found), indent=1))


if __name__ == "__main__":
    main()
