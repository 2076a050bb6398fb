"""The processes of one training, started by ``torchrun``; one process where there is none.

Gradients are reduced in one flat buffer after backward: wrappers that hook into backward break where a loss
differentiates twice or where players alternate.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist

# Before a group is made: torch's optimizers import this module, whose defaults hold whatever group there is then. A
# group so held outlives its destruction, and its threads, alive while the interpreter ends, now and then abort it.
import torch.distributed.nn.functional
from torch import Tensor, nn


class Ranks:
    """This process's place among ``world`` processes."""

    def __init__(self, device: torch.device) -> None:
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.world > 1 and not dist.is_initialized():
            # Once a process: a group that was destroyed cannot be made again through the same store.
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
            atexit.register(dist.destroy_process_group)

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier()

    @torch.no_grad()
    def reduce_gradients(self, weights: Sequence[nn.Parameter]) -> None:
        """Replaces gradients by their mean over processes."""
        if self.world == 1:
            return
        gradients = [p.grad for p in weights if p.grad is not None]
        if not gradients:
            return
        flat = torch.cat([g.reshape(-1) for g in gradients])
        dist.all_reduce(flat)
        flat /= self.world
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    @torch.no_grad()
    def reduce(self, values: dict[str, Tensor], *, mean: bool) -> dict[str, Tensor]:
        """Sums, or averages, named tensors over processes."""
        if self.world > 1:
            for value in values.values():
                dist.all_reduce(value)
                if mean:
                    value /= self.world
        return values

    @torch.no_grad()
    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Takes the first process's values everywhere."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def agree(self, value: float) -> float:
        """The first process's number, everywhere."""
        if self.world == 1:
            return value
        box = torch.tensor([value], dtype=torch.float64)
        if dist.get_backend() == "nccl":
            box = box.cuda()
        dist.broadcast(box, 0)
        return float(box.item())

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.world == 1:
            return flag
        box = torch.tensor([float(flag)])
        if dist.get_backend() == "nccl":
            box = box.cuda()
        dist.all_reduce(box)
        return bool(box.item() > 0)
