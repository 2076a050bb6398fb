"""The doctor on trainings made sick on purpose, two ways for each fault, and on healthy ones, where it must be silent.

    python benchmarks/doctor.py [--only NAME ...]

Writes ``benchmarks/results/doctor.json``. A training that is done is kept in runs/doctor; a stopped one goes on. Those
that need another run take healthy-flow-matching-digits. Run it in the repository's root.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

import reverie
from reverie.core import catalog
from reverie.core.errors import RequestError, ReverieError
from reverie.core.images import to_pillow
from reverie.data import DataConfig, open_data
from reverie.training.doctor import diagnose
from reverie.training.guards import Interrupted

ROOT = Path(__file__).resolve().parents[1]
RESULTS, RUNS = ROOT / "benchmarks" / "results" / "doctor.json", ROOT / "runs" / "doctor"


class Case(NamedTuple):
    """A training, and the fault that must be found in it; empty for a healthy one."""

    recipe: str
    data: str
    images: int
    changes: tuple[str, ...]
    fault: str


GAME = "model.{}_optimizer.lr={}"
D, G = "discriminator", "generator"
FEW = "few-digits"
MOMENTUM = ("name=adam", "betas=[0.9, 0.999]", "lr=5e-4")
CASES = {
    "collapse-1": Case("gan", "ring", 60_000, (GAME.format(G, 1e-2),), "mode collapse"),
    "collapse-2": Case("ebgan", "digits", 16_000, (GAME.format(G, 1e-2), GAME.format(D, 1e-5)), "mode collapse"),
    "strong-1": Case(
        "lsgan", "digits", 12_000, ("model.objective=non-saturating", GAME.format(G, 1e-7)), f"{D} too strong"
    ),
    "strong-2": Case("dcgan", "ring", 60_000, (GAME.format(D, 5e-3), GAME.format(G, 1e-6)), f"{D} too strong"),
    "weak-1": Case("dcgan", "digits", 12_000, (GAME.format(D, 0),), f"{D} too weak"),
    "weak-2": Case("lsgan", "digits", 12_000, ("model.clip=1e-5",), f"{D} too weak"),
    "vanishing-1": Case(
        "fgan-total-variation",
        "digits",
        16_000,
        tuple(f"model.{p}={{image: dcgan, points: mlp}}" for p in (D, G)),
        "vanishing gradient",
    ),
    "vanishing-2": Case(
        "gan", "digits", 32_000, ("model.objective=saturating", GAME.format(D, 1e-2)), "vanishing gradient"
    ),
    "exploding-1": Case("gan", "ring", 60_000, (GAME.format(G, 1e-1),), "exploding gradient"),
    "exploding-2": Case(
        "gan", "ring", 60_000, ("model.objective=wasserstein", GAME.format(D, 1e-2)), "exploding gradient"
    ),
    "oscillation-1": Case(
        "wgan", "ring", 200_000, ("model.discriminator_turns=1", GAME.format(G, 1e-3)), "oscillation"
    ),
    "oscillation-2": Case(
        "wgan",
        "ring",
        200_000,
        ("model.discriminator_turns=1", *(f"model.{p}_optimizer.{k}" for p in (D, G) for k in MOMENTUM)),
        "oscillation",
    ),
    "posterior-1": Case("vae", "digits", 12_000, ("model.beta=60",), "posterior collapse"),
    "posterior-2": Case("vae", "ring", 200_000, ("data.condition=label",), "posterior collapse"),
    "overfitting-1": Case("vae", FEW, 60_000, ("train.batch=16",), "overfitting"),
    "overfitting-2": Case("dcgan", FEW, 12_000, ("train.batch=32", GAME.format(D, 1e-3)), "overfitting"),
    "nan-1": Case("vae", "digits", 6_000, ("model.optimizer.lr=1e20", "model.optimizer.warmup=0"), "not a number"),
    "nan-2": Case("flow-matching", "ring", 60_000, ("model.optimizer.lr=1e30",), "not a number"),
    "too-high-1": Case(
        "vae", "ring", 60_000, ("model.optimizer.lr=3", "model.optimizer.schedule=constant"), "learning rate too high"
    ),
    "too-high-2": Case("flow-matching", "ring", 60_000, ("model.optimizer.lr=10",), "learning rate too high"),
    "too-low-1": Case("vae", "ring", 60_000, ("model.optimizer.lr=1e-6",), "learning rate too low"),
    "too-low-2": Case("flow-matching", "digits", 6_000, ("model.optimizer.lr=1e-5",), "learning rate too low"),
    **{
        f"healthy-{name}-ring": Case(name, "ring", 400_000, (), "")
        for name in ("ddpm", "flow-matching", "dcgan", "r3gan", "vae")
    },
    "healthy-vae-digits": Case("vae", "digits", 40_000, (), ""),
    "healthy-dcgan-digits": Case("dcgan", "digits", 48_000, (), ""),
    "healthy-r3gan-digits": Case("r3gan", "digits", 8_000, (), ""),
    "healthy-flow-matching-digits": Case("flow-matching", "digits", 12_000, (), ""),
    "healthy-ddpm-digits": Case("ddpm", "digits", 12_000, (), ""),
}
# Images before they draw anything, where 16,000 are too few.
SLOW = {"acgan": 32_000, "began": 48_000, "dragan": 32_000, "gan": 128_000, "sngan": 48_000}
SLOW |= {"veegan": 32_000, "wgan": 32_000, "wgan-gp": 64_000}
SLOW |= {f"fgan-{name}": 96_000 for name in ("hellinger", "jeffrey", "kl", "neyman", "reverse-kl")}
for entry in sorted(catalog.entries(), key=lambda entry: entry.name):
    parts = tuple(f"{part}=run:runs/doctor/healthy-flow-matching-digits" for part in entry.needs)
    healthy = Case(entry.name, "digits", SLOW.get(entry.name, 16_000), parts, "")
    CASES.setdefault(f"healthy-{entry.name}-digits", healthy)


def few_digits() -> str:
    """A folder of 96 digits, of which a sixth is held out."""
    folder = RUNS / FEW
    if not folder.is_dir():
        folder.mkdir(parents=True)
        for i, pixels in enumerate(open_data(DataConfig(source="digits")).train.pixels(np.arange(96))):
            import torch

            to_pillow(torch.from_numpy(pixels)).save(folder / f"{i}.png")
    return str(folder)


def run(name: str, case: Case) -> dict[str, object]:
    out = RUNS / name
    data = few_digits() if case.data == FEW else case.data
    batch = (
        () if any(c.startswith("train.batch") for c in case.changes) or case.data != "ring" else ("train.batch=128",)
    )
    held = ("data.held_out=0.3", "data.condition=none") if case.data == FEW else ()
    broke = ""
    try:
        changes = (*case.changes, *batch, *held, "train.grids=6", "train.log_every=4")
        reverie.train(case.recipe, data, out=out, images=case.images, changes=changes, quiet=True)
    except Interrupted:
        raise SystemExit(130) from None
    except RequestError as error:  # the folder holds another case of this name
        raise SystemExit(str(error)) from None
    except ReverieError as error:
        broke = str(error)
    faults = [finding for finding in diagnose(out) if finding.kind == "fault"]
    names = [finding.name for finding in faults]
    right = case.fault in names if case.fault else not names
    return {
        "recipe": case.recipe,
        "data": case.data,
        "images": case.images,
        "changes": list(case.changes),
        "expected": case.fault or "nothing",
        "found": [str(finding) for finding in faults],
        "right": right,
        "broke": broke,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(CASES), choices=list(CASES), metavar="NAME")
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name in parser.parse_args().only:
        results[name] = run(name, CASES[name])
        RESULTS.write_text(json.dumps({k: results[k] for k in CASES if k in results}, indent=1) + "\n")
        print("right" if results[name]["right"] else "WRONG", name, results[name]["found"], flush=True)


if __name__ == "__main__":
    main()
