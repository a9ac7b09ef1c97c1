"""What the kernels' callers may hand them: a kernel reads memory as what it was compiled for.

A wrong type or size would give numbers, or read past the end, where PyTorch would have raised.
"""

import torch
from torch import Tensor

NUMBERS = (torch.bfloat16, torch.float32)
E4M3 = (torch.float8_e4m3fn,)
SCALES = (torch.float32,)
COUNTS = (torch.int32,)


def expect(
    kernel: str,
    name: str,
    found: Tensor | None,
    dtypes: tuple[torch.dtype, ...],
    shape: tuple[int, ...] | None = None,
) -> None:
    """Raise ValueError unless `found` is None or has one of the dtypes and, if given, the shape."""
    if found is None:
        return
    if found.dtype not in dtypes:
        known = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise ValueError(f"{kernel}: {name} is {found.dtype}, expected {known}")
    if shape is not None and found.shape != shape:
        raise ValueError(f"{kernel}: {name} is {list(found.shape)}, expected {list(shape)}")
