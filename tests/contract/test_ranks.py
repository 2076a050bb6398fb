"""Gradient accumulation and two processes: both equal one process with the whole batch in as many micro-batches."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import reverie
from reverie.core.run import Run

SETTINGS = {
    "train.batch": 8,
    "train.steps": 3,
    "train.time": None,
    "train.images": None,
    "train.grids": 0,
    "train.precision": "fp32",
    "data.size": 16,
}
SMALL = {"name": "dcgan", "width": 8, "norm": "none"}  # batch norm sees micro-batches: its means are not the batch's
PAIR = {"model.generator": SMALL, "model.discriminator": SMALL}
OWN = {  # what a recipe is told beside: losses that differentiate twice, on one structure of its own too
    # At a small rate: Adam's second step is taken where rounding of tiny gradients put the first.
    "wgan-gp": {
        **PAIR,
        "model.discriminator_turns": 2,
        "model.generator_optimizer.lr": 1e-4,
        "model.discriminator_optimizer.lr": 1e-4,
    },
    "dragan": PAIR,
    "acgan": {**PAIR, "model.penalties": {"r1": 1.0, "r2": 1.0}},
}
SCRIPT = """
import atexit, os, pathlib, sys, torch, reverie
def ended():  # runs after the group was destroyed: threads that outlive it abort the process now and then
    names = [file.read_text().strip() for file in pathlib.Path("/proc/self/task").glob("*/comm")]
    pathlib.Path(sys.argv[1], "left-" + os.environ["RANK"]).write_text(" ".join(n for n in names if "gloo" in n))
atexit.register(ended)
torch.set_num_threads(1)
own = %r
for name in sys.argv[2:]:
    reverie.train(name, "digits", out=f"{sys.argv[1]}/{name}", changes={**%r, **own.get(name, {})}, quiet=True)
"""


def weights(run: Run) -> dict[str, torch.Tensor]:
    folder = sorted(run.checkpoints.glob("[0-9]*"))[-1]
    return {f"{f.stem}/{k}": v for f in folder.glob("*.safetensors") for k, v in load_file(f).items()}


def test_two_processes_equal_two_micro_batches(tmp_path: Path) -> None:
    names = ["flow-matching", "r3gan", *OWN]  # one denoiser, and losses that differentiate twice
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    script = [sys.executable, "-X", "faulthandler", "-c", SCRIPT % (OWN, SETTINGS), str(tmp_path / "two"), *names]
    done = subprocess.run([*command, *script], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / "two" / f"left-{rank}").read_text() for rank in range(2)] == ["", ""]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name in names:
            changes = {**SETTINGS, "train.accumulate": 2, **OWN.get(name, {})}
            run = reverie.train(name, "digits", out=tmp_path / name, changes=changes, quiet=True)
            one, two = weights(run), weights(Run(tmp_path / "two" / name))
            # Memory is kept a process; what both see of a turn is the turn's, so theirs is the same.
            second = {key: two.pop(key) for key in list(two) if key.startswith("memory-1/")}
            assert one.keys() == two.keys()
            assert all(torch.equal(two[key.replace("memory-1", "memory-0")], value) for key, value in second.items())
            assert bool(second) == (name == "dragan")
            for key, value in one.items():
                torch.testing.assert_close(two[key], value, rtol=1e-5, atol=1e-7, msg=lambda m, key=key: f"{key}: {m}")
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ["flow-matching", "r3gan", "wgan-gp", "dragan", "acgan"])
def test_accumulation_changes_nothing_but_rounding(name: str, tmp_path: Path) -> None:
    """No network looks across rows, so micro-batches add up to the batch."""
    settings = {**SETTINGS, **OWN.get(name, {}), **({"model.drop_label": 0.0} if name == "flow-matching" else {})}
    runs = [
        reverie.train(name, "digits", out=tmp_path / f"{k}", changes={**settings, "train.accumulate": k}, quiet=True)
        for k in (1, 4)
    ]
    one, four = weights(runs[0]), weights(runs[1])
    moments = [key for key in one if key.startswith("optimizers/") and key.endswith("exp_avg")]
    assert moments
    for key in moments:  # of the gradient itself: Adam's step would turn rounding of tiny gradients into whole steps
        scale = float(one[key].abs().max())
        torch.testing.assert_close(four[key], one[key], rtol=1e-3, atol=max(1e-7, 2e-3 * scale))
