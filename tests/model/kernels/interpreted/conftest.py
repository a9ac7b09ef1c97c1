"""Tests here run kernels in Triton's interpreter, in a process of their own.

Whether a kernel is compiled or interpreted is decided when it is defined, so one process can't do
both. These files are skipped in an ordinary run; `test_interpreted.py` in the folder above runs
each of them with TRITON_INTERPRET=1. By hand:
`TRITON_INTERPRET=1 pytest tests/model/kernels/interpreted/test_quantize.py`.
"""

import os
import sys
from pathlib import Path

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
collect_ignore_glob = [] if INTERPRETED else ["test_*.py"]
# In pytest's importlib mode a test finds no module beside it (`operands`).
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def poisoned_memory():
    """torch.empty gives NaN (floating point, FP8 too) or the largest integer, never old zeros."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3, dtype=torch.float8_e4m3fn).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def hostile():
    """A matrix with everything in it that rounding could get wrong, [m, k] float32 or bfloat16.

    Rows of very different size, of one sign, of zeros, of subnormal numbers, with outliers of 1e4,
    with whole stretches of -0.
    """

    def make(m: int, k: int, dtype=torch.float32, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(m, k, generator=generator)
        x *= torch.exp2(torch.randint(-12, 8, (m, 1), generator=generator).float())
        kind = torch.arange(m) % 7
        x[kind == 1] = x[kind == 1].abs()
        x[kind == 2] = 0.0
        x[kind == 3] *= 1e-39 / x[kind == 3].abs().amax(1, keepdim=True)
        outlier = torch.randint(k, (m,), generator=generator)
        x[torch.arange(m), outlier] = torch.where(kind == 4, 1e4, x[torch.arange(m), outlier])
        x[kind == 5, : k // 3] = -0.0
        return x.to(dtype)

    return make


@pytest.fixture
def same_bytes():
    """Hold FP8 tensors equal to the byte, -0 and all, and any NaN equal to any other."""

    def check(found: torch.Tensor, expected: torch.Tensor) -> None:
        assert found.shape == expected.shape and found.dtype == expected.dtype
        undefined = expected.float().isnan()
        assert torch.equal(found.float().isnan(), undefined)
        other = (found.view(torch.uint8) != expected.view(torch.uint8)) & ~undefined
        assert not other.any(), f"{int(other.sum())} of {other.numel()} bytes differ"

    return check


@pytest.fixture
def error():
    """‖found − expected‖ / ‖expected‖ in float64."""

    def measure(found: torch.Tensor, expected: torch.Tensor) -> float:
        difference = found.double() - expected.double()
        return (difference.norm() / expected.double().norm()).item()

    return measure
