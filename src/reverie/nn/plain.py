"""Whether plain first-order autograd is all that runs: what hand-written gradients can serve."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad


def transformed() -> bool:
    """Whether ``torch.func`` transforms or forward-mode derivatives are at work."""
    if torch.compiler.is_compiling():  # which cannot trace the question
        return False
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def only_first_derivatives() -> bool:
    """False under transforms, forward-mode derivatives and ``torch.compile``, which writes its own."""
    return not (torch.compiler.is_compiling() or transformed())
