"""Whether plain first-order autograd is all that runs: what hand-written gradients can serve."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad


def only_first_derivatives() -> bool:
    """False under ``torch.func`` transforms, forward-mode derivatives and ``torch.compile``."""
    transformed = torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    return not (transformed or torch.compiler.is_compiling())
