"""Quantise weights to E4M3 in blocks of 128 x 128, the transpose beside them from the same read.

A weight is multiplied with in two directions: by its rows forward, by its columns for the input's
gradient. A block's scale serves both, so the transpose is the same bytes in another order; but the
tensor cores want FP8 operands with the inner dimension adjacent in memory, so it is written out.
Once an optimizer step: 4 bytes read from the float32 master weight, 1 or 2 written.

The bytes are those of `model.fp8.quantize_blocks`, the reference. Stacked experts [E, n, k] are
rounded each for itself: no block spans two experts.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from model import fp8
from model.kernels.accepted import NUMBERS, expect
from model.kernels.compile import builds, tuned
from model.kernels.rounding import TILE, largest, round_tiles, tile_scale

CONFIGS = [
    triton.Config({}, num_warps=4, maxnreg=168),
    triton.Config({}, num_warps=8, maxnreg=96),
    triton.Config({}, num_warps=16, maxnreg=64),
]


@tuned(CONFIGS, key=["n", "k"])
@triton.jit
def blocks_kernel(w, q, qt, scale, n, k, TRANSPOSE: tl.constexpr, POWER_OF_TWO: tl.constexpr):
    """w [E, n, k] to q [E, n, k] and scale [E, n/128, k/128]; grid (k/128, n/128, E).

    With TRANSPOSE also to qt [E, k, n], whose scales are scale's transpose.
    """
    wide, tall, expert = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    side = tl.arange(0, TILE)
    rows, columns = n - tall * TILE, k - wide * TILE  # how many are left from here
    corner = (expert * n + tall * TILE) * k + wide * TILE
    at = side[:, None] * k + side[None, :]
    inside = (side[:, None] < rows) & (side[None, :] < columns)
    block = tl.load(w + corner + at, mask=inside, other=0.0).to(tl.float32)
    of_block = tile_scale(largest(largest(block, 1), 0), POWER_OF_TWO)
    rounded = round_tiles(block, of_block, POWER_OF_TWO)
    tl.store(q + corner + at, rounded, mask=inside)
    place = (expert * tl.num_programs(1) + tall) * tl.num_programs(0) + wide
    tl.store(scale + place, of_block)
    if TRANSPOSE:
        corner = (expert * k + wide * TILE) * n + tall * TILE
        at = side[:, None] * n + side[None, :]
        fits = (side[:, None] < columns) & (side[None, :] < rows)
        tl.store(qt + corner + at, tl.trans(rounded), mask=fits)


def quantize_blocks(
    w: Tensor, *, power_of_two: bool = False, transpose: bool = False
) -> tuple[Tensor, ...]:
    """w: float32 or bfloat16 [n, k] or [E, n, k] to E4M3 like w and scales [..., n/128, k/128].

    With `transpose` there follow E4M3 [..., k, n] and its scales [..., k/128, n/128], a view.
    """
    expect("quantise blocks", "w", w, NUMBERS)
    w = w.contiguous()
    n, k = w.shape[-2:]
    experts = w.shape[0] if w.ndim == 3 else 1
    grid = (triton.cdiv(k, fp8.TILE), triton.cdiv(n, fp8.TILE), experts)
    q = torch.empty(w.shape, dtype=torch.float8_e4m3fn, device=w.device)
    shape = (*w.shape[:-2], grid[1], grid[0])
    scale = torch.empty(shape, dtype=torch.float32, device=w.device)
    turned = (*w.shape[:-2], k, n)
    qt = torch.empty(turned, dtype=q.dtype, device=w.device) if transpose else None
    if w.numel():
        options = {"TRANSPOSE": transpose, "POWER_OF_TWO": power_of_two}
        blocks_kernel[grid](w, q, qt, scale, n, k, **options)
    return (q, scale, qt, scale.mT) if transpose else (q, scale)


_TYPES = {"q": "*fp8e4nv:16", "scale": "*fp32:16", "n": "i32:16", "k": "i32:16"}

BUILDS = [
    *builds(
        "quantize_blocks",
        blocks_kernel,
        {"w": "*fp32:16", **_TYPES},
        {"qt": None, "TRANSPOSE": False, "POWER_OF_TWO": False},
    ),
    *builds(
        "quantize_blocks_both",
        blocks_kernel,
        {"w": "*fp32:16", "qt": "*fp8e4nv:16", **_TYPES},
        {"TRANSPOSE": True, "POWER_OF_TWO": False},
    ),
]
