"""What the structures of GANs are for, ten minutes of training each on one core or more.

    python benchmarks/gan_structures.py acgan | cgan          # samples recognised as their label, by the judge
    python benchmarks/gan_structures.py infogan [--seeds 0 1 2]   # the categorical code against the digits' classes
    python benchmarks/gan_structures.py ssgan                 # test error from 1,000 labels, with and without the rest
    python benchmarks/gan_structures.py bigan                 # a linear probe of the encoder's code

Writes ``benchmarks/results/gan_structures.json``; grids are in the runs' ``samples/``, in runs/gan-structures.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from judge import MNIST, Court, rows_of
from torch import Tensor, nn

import reverie
from reverie.core.batch import Condition
from reverie.core.capabilities import Encodes
from reverie.core.images import save_grid
from reverie.core.model import Model
from reverie.core.run import Run
from reverie.data import DataConfig, open_data
from reverie.data.dataset import Rows

ROOT = Path(__file__).resolve().parents[1]
RESULTS, RUNS = ROOT / "benchmarks/results/gan_structures.json", ROOT / "runs/gan-structures"
SAMPLES = 10_000


def trained(
    name: str, recipe: str, time: str, seed: int = 0, data: str = "digits", changes: tuple[str, ...] = ()
) -> Model:
    changes = (*changes, f"train.seed={seed}")
    run = reverie.train(recipe, data, out=RUNS / f"{name}-{seed}", time=time, changes=changes, quiet=True)
    return reverie.load(run)


def labelled(recipe: str, time: str) -> dict[str, Any]:
    """Samples of every label, recognised or not; ``confident`` and ``coverage`` tell of a generator that cheats."""
    model, court = trained(recipe, recipe, time), Court()
    drawn = reverie.sample(model, SAMPLES, seed=0)
    assert drawn.labels is not None
    found = court.measure(drawn.x, drawn.labels)
    by_label = reverie.sample(model, 100, seed=1, labels=[k for k in range(10) for _ in range(10)])
    save_grid(by_label.x, RUNS / f"{recipe}.png", 10, 2)
    return found | court.relative(found) | {"judge": court.accuracy, "bar": 0.95}


@torch.no_grad()
def encoded(model: Model, rows: Rows, part: int) -> Tensor:
    encodes = model.view(Encodes)
    assert encodes is not None
    return torch.cat([encodes.encode(x)[part] for x in rows_of(rows)[0].split(1000)])


def infogan(time: str, seeds: list[int]) -> dict[str, Any]:
    """The share of held-out digits whose code is that of their class, under the best assignment of codes to classes."""
    from scipy.optimize import linear_sum_assignment

    held, shares = open_data(DataConfig(source=str(MNIST))).held_out, {}
    labels = rows_of(held)[1]
    for seed in seeds:
        model = trained("infogan", "infogan", time, seed)
        codes = encoded(model, held, 1).flatten().long()
        table = torch.zeros(10, 10).index_put_((codes, labels), torch.ones(len(codes)), accumulate=True)
        rows, columns = linear_sum_assignment(-table.numpy())
        shares[seed] = float(table[rows, columns].sum() / len(codes))
        print(seed, shares[seed], flush=True)
        _codes(model, seed)
    return {"agreement": shares, "median": statistics.median(shares.values()), "bar": 0.75}


def _codes(model: Model, seed: int) -> None:
    """A row each categorical code; columns of ten z, and in two more grids along a continuous code from -1.5 to 1.5."""
    z = torch.randn(1, model.config.latent, generator=torch.Generator().manual_seed(0)).expand(100, -1)
    category = torch.arange(10).repeat_interleave(10)[:, None]
    for which in range(2):
        continuous = torch.zeros(100, 2)
        continuous[:, which] = torch.linspace(-1.5, 1.5, 10).repeat(10)
        with torch.no_grad():
            x = model.decode((z, category, continuous))
        save_grid(x, RUNS / f"infogan-{seed}-code-{which}.png", 10, 2)
    many = torch.randn(10, model.config.latent, generator=torch.Generator().manual_seed(1)).repeat(10, 1)
    with torch.no_grad():
        save_grid(model.decode((many, category, torch.zeros(100, 2))), RUNS / f"infogan-{seed}.png", 10, 2)


# Layers without convolutions, as the paper has them on MNIST: noise in D, batch norm in G, batches of 100.
PERMUTATION_INVARIANT = (
    "model.discriminator={image: {name: mlp, width: 500, depth: 4, noise: 0.4}, points: mlp}",
    "model.generator={image: {name: mlp, width: 500, depth: 2, slope: 0, norm: batch}, points: mlp}",
    "train.batch=100",
)


def ssgan(time: str) -> dict[str, Any]:
    """The test error with all rows, and with the 1,000 labelled ones alone."""
    held, errors = open_data(DataConfig(source=str(MNIST))).held_out, {}
    x, labels = rows_of(held)
    for name, changes in {"with": (), "without": ("model.unlabelled=0",)}.items():
        changes = (*PERMUTATION_INVARIANT, *changes)
        model = trained(f"ssgan-{name}", "ssgan", time, data=str(MNIST), changes=changes)
        with torch.no_grad():
            guesses = torch.cat([model.class_logits(part).argmax(1) for part in x.split(1000)])
        errors[name] = float((guesses != labels).float().mean())
        print(name, errors[name], flush=True)
        save_grid(reverie.sample(model, 64, seed=0).x, RUNS / f"ssgan-{name}.png", 8, 2)
    return {"test_error": errors, "ratio": errors["with"] / errors["without"], "bar": 0.5}


def bigan(time: str) -> dict[str, Any]:
    """Accuracy of a linear probe on MNIST's test file: BiGAN's code, a random encoder's, a plain autoencoder's."""
    model = trained("bigan", "bigan", time)
    data = open_data(DataConfig(source="digits"))
    test = open_data(DataConfig(source=str(MNIST))).held_out
    found = {"bigan": probe(lambda x: model.encode(x)[0], data.train, test)}
    torch.manual_seed(0)
    again = type(model)(model.config, model.data_space, {}).eval()
    found["random encoder"] = probe(lambda x: again.encode(x)[0], data.train, test)
    encoder, decoder = again.encoder, again.generator
    autoencoder(encoder, decoder, data.train, steps=_rounds(RUNS / "bigan-0"))
    found["autoencoder"] = probe(lambda x: encoder(x)[:, : model.config.latent], data.train, test)
    found["pixels"] = probe(lambda x: x.flatten(1), data.train, test)
    return {"accuracy": found, "behind_autoencoder": found["autoencoder"] - found["bigan"], "bar": 0.03}


def _rounds(out: Path) -> int:
    """How many batches the BiGAN saw: the autoencoder sees as many."""
    done = [event for event in Run.open(out).journal() if event.get("event") == "done"]
    return int(done[-1]["images"]) // 32


def autoencoder(encoder: nn.Module, decoder: nn.Module, rows: Rows, steps: int) -> None:
    """The same two networks as a plain autoencoder, by squared error."""
    encoder.train(), decoder.train()
    weights = [*encoder.parameters(), *decoder.parameters()]
    for weight in weights:
        weight.requires_grad_()
    optimizer = torch.optim.Adam(weights, 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    order = np.random.Generator(np.random.Philox(0))
    for _ in range(steps):
        x = rows.take(np.sort(order.choice(len(rows), 32, replace=False)))[0]
        z = encoder(x)[:, : decoder.start.in_features]
        loss = F.mse_loss(decoder(z, Condition()), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    encoder.eval(), decoder.eval()


@torch.no_grad()
def probe(code: Any, train: Rows, test: Rows) -> float:
    """Logistic regression on standardised codes."""
    from sklearn.linear_model import LogisticRegression

    (x, labels), (y, truth) = rows_of(train), rows_of(test)
    one, two = (torch.cat([code(part) for part in side.split(1000)]).double() for side in (x, y))
    mean, scale = one.mean(0), one.std(0) + 1e-9
    fitted = LogisticRegression(max_iter=2000).fit(((one - mean) / scale).numpy(), labels.numpy())
    return float(fitted.score(((two - mean) / scale).numpy(), truth.numpy()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("structure", choices=["acgan", "cgan", "infogan", "ssgan", "bigan"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of infogan")
    parser.add_argument("--time", default="10m")
    asked = parser.parse_args()
    name = asked.structure
    if name in ("acgan", "cgan"):
        found = labelled(name, asked.time)
    elif name == "infogan":
        found = infogan(asked.time, asked.seeds)
    else:
        found = {"ssgan": ssgan, "bigan": bigan}[name](asked.time)
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    results[name] = found | {"time": asked.time, "threads": torch.get_num_threads()}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results[name], indent=1))


if __name__ == "__main__":
    main()
