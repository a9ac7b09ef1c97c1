"""Whether kernels run: the one switch between them and plain PyTorch, by the tensor's device."""

import os

import torch
from torch import Tensor

# FP8 products and tensor copies as these kernels use them came with Hopper.
CAPABILITY = (9, 0)


def enabled(x: Tensor, dtype: torch.dtype | None = None) -> bool:
    """Whether the kernels, and not their references, compute with `x`.

    On a GPU from Hopper on they do (a kernel that is fit for one `dtype` only names it); on a CPU
    only when Triton interprets them (TRITON_INTERPRET=1, for tests: it is slow), so that the
    references train there.
    """
    if x.device.type == "cuda":
        fit = dtype is None or x.dtype == dtype
        return fit and torch.cuda.get_device_capability(x.device) >= CAPABILITY
    return x.device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"
