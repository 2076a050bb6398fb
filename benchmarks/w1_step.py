"""W1: the training step of a U-Net or a transformer at 32×32×3, batch 32: forward, squared error, backward, AdamW, EMA.

Each peer in its float32 default, in a process of its own, in turns with ours with its widths, depth and attention in
the default that ``--device cpu`` picks (bfloat16 where the processor has it, channels_last), and with our own default
network. FLOPs are counted by torch. The smallest of the times counts: noise only adds.

    python benchmarks/w1_step.py [unet | transformer] [--peers FOLDER] [--repeats 5] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
import transformer_peers
import unet_peers
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from unet_peers import SPACE, Apart, machine, parameters

from reverie.core.allocator import keep_freed_memory
from reverie.core.device import Precision, autocast
from reverie.nn.denoiser import dit, unet

FAMILIES = {"unet": (unet_peers, unet), "transformer": (transformer_peers, dit)}
RESULTS = Path(__file__).parent / "results"
BATCH = 32
CPU = torch.device("cpu")


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(BATCH, 3, 32, 32, generator=generator)
    return x, torch.rand(BATCH, generator=generator), torch.randn(BATCH, 3, 32, 32, generator=generator)


def peer_step(family: str, name: str) -> tuple[dict[str, float], Callable[[], float]]:
    """A peer's step in float32: torch's default AdamW, and ema_pytorch, which two of them use; and what it costs."""
    from ema_pytorch import EMA

    net, call, _ = FAMILIES[family][0].PEERS[name]()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-4)
    ema = EMA(net, beta=0.999, update_every=1, update_after_step=0)
    x, t, target = batch()

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = F.mse_loss(call(net, x, t), target)
        loss.backward()
        optimizer.step()
        ema.update()
        return loss.item()

    return {"parameters_M": parameters(net), "GFLOP": gflop(step)}, step


def our_step(net: nn.Module, precision: Precision = "auto", data: Callable[[], tuple] = batch) -> Callable[[], float]:
    """Our step: autocast as ``--device cpu`` picks it, channels_last, fused AdamW, one lerp for all averages."""
    net = net.to(memory_format=torch.channels_last)
    parameters = list(net.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=2e-4, fused=True)
    averages = [p.detach().clone() for p in parameters]

    def step() -> float:
        x, t, target = data()
        optimizer.zero_grad(set_to_none=True)
        with autocast(CPU, precision):
            loss = F.mse_loss(net(x, t).float(), target)
        loss.backward()
        optimizer.step()
        torch._foreach_lerp_(averages, [p.detach() for p in parameters], 0.001)
        return loss.item()

    return step


def gflop(step: Callable[[], float]) -> float:
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 1e9


def timed(step: Callable[[], float]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def row(name: str, size: float, work: float, times: list[float]) -> dict[str, object]:
    print(f"{name:45s} {size:5.2f} M  {work:6.1f} GFLOP  min {min(times):.3f} s  {work / min(times):5.0f} GFLOP/s")
    return {"name": name, "parameters_M": size, "GFLOP": work, "seconds": times, "GFLOP_per_s": work / min(times)}


def curves(network: Callable[[], nn.Module], steps: int) -> dict[str, list[float]]:
    """Losses of our default network in float32 and bfloat16 from the same start on the same batches: a toy flow."""
    losses: dict[str, list[float]] = {}
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        net = network()
        seeds = iter(range(steps))

        def data(seeds: object = seeds) -> tuple[Tensor, Tensor, Tensor]:
            noise, t, _ = batch(next(seeds))  # type: ignore[call-overload]
            grid = torch.linspace(-3, 3, 32)
            # Smooth pictures that a network can learn: plane waves with random directions.
            wave = torch.sin(noise[:, :, :1, :1] * grid[:, None] + noise[:, :, 1:2, 1:2] * grid)
            s = t[:, None, None, None]
            return (1 - s) * wave + s * noise, t, noise - wave

        step = our_step(net, precision, data)  # type: ignore[arg-type]
        losses[precision] = [step() for _ in range(steps)]
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", nargs="?", default="unet", choices=FAMILIES)
    parser.add_argument("--peers", help="a folder of packages: pip install --target FOLDER …")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--curve", type=int, default=60, help="steps of the bfloat16 and float32 loss curves")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    results: list[dict[str, object]] = []
    summary: dict[str, float] = {}
    torch.manual_seed(0)
    peers, own_file = FAMILIES[given.family]
    default = own_file.Network(own_file.Config(), SPACE)
    default_step = our_step(default)
    for name in peers.PEERS:
        peer = Apart(peer_step, (given.family, name), given.peers, given.threads)
        torch.manual_seed(0)
        net = own_file.Network(peers.OURS[name], SPACE)
        step = our_step(net)
        work = [peer.about["GFLOP"], gflop(step), gflop(default_step)]
        # In turns, so that a busy moment hits them alike.
        turns = [(peer(), timed(step), timed(default_step)) for _ in range(given.repeats + 1)][1:]
        theirs, same, own = (list(times) for times in zip(*turns, strict=True))
        results.append(row(name, peer.about["parameters_M"], work[0], theirs))
        results.append(row(f"ours at {name}'s sizes", parameters(net), work[1], same))
        results.append(row("ours, default network", parameters(default), work[2], own))
        ratio, rate = min(theirs) / min(same), work[2] / min(own) * min(theirs) / work[0]
        summary |= {f"times as fast as {name}": ratio, f"default network's FLOP/s over {name}'s": rate}
        print(f"  {ratio:.2f} times as fast; default network at {rate:.2f} times its FLOP/s", flush=True)
    losses = curves(lambda: own_file.Network(own_file.Config(), SPACE), given.curve)
    tail = {k: sum(v[-20:]) / 20 for k, v in losses.items()}
    print(f"mean loss of the last 20 of {given.curve} steps: {tail}")
    RESULTS.mkdir(exist_ok=True)
    record = {**machine(), "rows": results, "summary": summary, "losses": losses}
    (RESULTS / f"w1_{given.family}_step.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
