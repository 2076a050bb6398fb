"""Multistep solvers beside those of diffusers, on the exact denoiser of a mixture: the greatest difference of any row.

Both take the same noise through the same times of DDPM's path; diffusers computes its coefficients in float32.

    python benchmarks/solver_peers.py [--peers FOLDER]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reverie.core.noise import KeyedNoise
from reverie.maths.paths import LinearBetas
from reverie.maths.posteriors import GaussianMixtureData
from reverie.samplers.integrate import Film, integrate
from reverie.samplers.solver import find_solver

RESULTS = Path(__file__).parent / "results" / "solver_peers.json"
BOUND = 1e-5
ROWS = 16
MIXTURE = GaussianMixtureData(
    LinearBetas(),
    torch.tensor([0.3, 0.7]),
    torch.tensor([[-0.8, 0.4], [0.6, -0.1]]),
    torch.tensor([[[0.1, 0.02], [0.02, 0.05]], [[0.05, 0.0], [0.0, 0.2]]]),
)


def theirs(
    scheduler: Any, x: Tensor, steps: int, noise: KeyedNoise | None, last: bool
) -> tuple[list[float], list[Tensor]]:
    """Times, and rows after each step, perhaps but the last, of a diffusers scheduler that is told x_0."""
    scheduler.set_timesteps(steps)
    ticks, rows = scheduler.timesteps.tolist(), []
    times = [(k + 1) / 1000 for k in ticks]
    for k, t in zip(ticks if last else ticks[:-1], times, strict=False):
        x_0 = MIXTURE.denoise(x, torch.full((len(x),), t)).mean
        options = {"variance_noise": noise.normal(2)} if noise else {}
        x = scheduler.step(x_0, k, x, **options).prev_sample
        rows.append(x)
    return [*times, 0.0], rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", help="a folder of packages: pip install --target FOLDER diffusers")
    given = parser.parse_args()
    if given.peers:
        sys.path.append(given.peers)
    from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler

    common = {"prediction_type": "sample", "beta_schedule": "linear", "timestep_spacing": "trailing"}
    common |= {"beta_start": 1e-4, "beta_end": 0.02, "final_sigmas_type": "zero"}
    pairs = {
        "dpm-solver": DPMSolverMultistepScheduler(**common),
        "dpm-solver eta=1": DPMSolverMultistepScheduler(**common, algorithm_type="sde-dpmsolver++"),
        "unipc": UniPCMultistepScheduler(**common, solver_type="bh2"),
        # Not lowered near the end, as ours is not: its last step, to sigma = 0, has no value then and is left out.
        "unipc order=3": UniPCMultistepScheduler(**common, solver_type="bh2", solver_order=3, lower_order_final=False),
    }
    found = {}
    for title, scheduler in pairs.items():
        name, _, option = title.partition(" ")
        options = {key: float(value) for key, value in [option.split("=")]} if option else {}
        solver = find_solver({"name": name, **options})
        for steps in (10, 25, 100):
            x = KeyedNoise(0, torch.arange(ROWS), "start").normal(2)
            noise, same = (KeyedNoise(0, torch.arange(ROWS), "steps") for _ in range(2))
            times, rows = theirs(scheduler, x, steps, noise if "eta" in title else None, "order=3" not in title)
            film = Film()
            integrate(MIXTURE, solver, x, times, same, watch=film)
            worst = max((a - b.x_t).abs().max().item() for a, b in zip(rows, film.frames, strict=False))
            found[f"{title}, {steps} steps"] = worst
            print(f"{title}, {steps} steps: {worst:.1e}{'' if worst < BOUND else '  more than the bound'}")
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
