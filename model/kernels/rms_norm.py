"""RMSNorm fused with the quantisation of its output.

y = x / sqrt(mean(x^2) + eps) * w (Zhang and Sennrich 2019) goes straight into FP8 tiles for the
linear layer behind it: x is read once, the bfloat16 y never exists unless asked for (a router reads
it in full precision). The inverse root is kept, 4 bytes a token: from it, x and w the backward pass
computes y anew, as the report does (section 3.2.3).

A program holds whole rows in registers as tiles [rows, d/128, 128], so that the sum of squares and
every tile's largest magnitude come from one load. Widths that are no power of two waste lanes (7168
fills 7/8 of 8192), not bytes. The twin is `rms_norm_reference`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from model import fp8
from model.kernels.accepted import NUMBERS, expect
from model.kernels.compile import builds, tuned
from model.kernels.quantize import empty_tiles
from model.kernels.rounding import TILE, cast, largest, round_tiles, tile_scale

# Lanes of a program are rows times d rounded up: few rows of wide ones, many of narrow ones.
CONFIGS = [triton.Config({}, num_warps=w) for w in (4, 8, 16)]


@tuned(CONFIGS, key=["m", "d"])
@triton.jit
def norm_kernel(
    x,
    weight,
    q,
    scale,
    inverse,
    y,
    m,
    d,
    eps,
    ROWS: tl.constexpr,
    TILES: tl.constexpr,
    WRITE_Y: tl.constexpr,
    POWER_OF_TWO: tl.constexpr,
):
    """x [m, d] to q [m, d], scale [m, d/128] (m innermost), inverse [m]; grid (m/ROWS,).

    TILES is a power of two, at least d/128; with WRITE_Y also to y [m, d] in x's type.
    """
    first = tl.program_id(0).to(tl.int64) * ROWS
    row, tile, lane = tl.arange(0, ROWS), tl.arange(0, TILES), tl.arange(0, TILE)
    column = tile[:, None] * TILE + lane[None, :]
    at = row[:, None, None] * d + column[None, :, :]
    inside = (row[:, None, None] < m - first) & (column[None, :, :] < d)
    block = tl.load(x + first * d + at, mask=inside, other=0.0).to(tl.float32)
    w = tl.load(weight + column, mask=column < d, other=0.0).to(tl.float32)
    squares = tl.sum(tl.sum(block * block, 2), 1)
    root = 1.0 / tl.sqrt_rn(squares / d + eps)
    tl.store(inverse + first + row, root, mask=row < m - first)
    block = block * root[:, None, None] * w[None, :, :]
    if WRITE_Y:
        tl.store(y + first * d + at, cast(block, y.dtype.element_ty), mask=inside)
    scales = tile_scale(largest(block, 2), POWER_OF_TWO)
    tl.store(q + first * d + at, round_tiles(block, scales[:, :, None], POWER_OF_TWO), mask=inside)
    places = tile[None, :].to(tl.int64) * m + first + row[:, None]
    fits = (row[:, None] < m - first) & (tile[None, :] * TILE < d)
    tl.store(scale + places, scales, mask=fits)


def rms_norm_quantize(
    x: Tensor, weight: Tensor, eps: float, *, write_y: bool = False, power_of_two: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """RMSNorm of x [m, d], bfloat16 or float32, with weight [d], in 1 x 128 tiles.

    Gives E4M3 [m, d], scales [m, d/128], 1 / rms as float32 [m], and y [m, d] in x's type if asked
    for, else None. d is at most 8,192, ValueError if more.
    """
    m, d = x.shape
    tiles = triton.next_power_of_2(triton.cdiv(d, fp8.TILE))
    if tiles > 64:
        raise ValueError(f"RMSNorm of {d} columns: a row must fit in registers, at most 8192")
    expect("RMSNorm", "x", x, NUMBERS)
    expect("RMSNorm", "weight", weight, NUMBERS, (d,))
    q, scale = empty_tiles(x, m, d)
    inverse = torch.empty(m, dtype=torch.float32, device=x.device)
    y = torch.empty_like(x, memory_format=torch.contiguous_format) if write_y else None
    if x.numel():
        rows = max(1, 32 // tiles)
        tensors = x.contiguous(), weight.contiguous(), q, scale, inverse, y
        options = {"WRITE_Y": write_y, "POWER_OF_TWO": power_of_two}
        grid = (triton.cdiv(m, rows),)
        norm_kernel[grid](*tensors, m, d, eps, ROWS=rows, TILES=tiles, **options)
    return q, scale, inverse, y


def rms_norm_reference(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """y [m, d] and 1 / rms [m], in the precision of x."""
    inverse = (x.square().mean(1) + eps).rsqrt()
    return x * inverse[:, None] * weight, inverse


_TYPES = {
    "x": "*bf16:16",
    "weight": "*fp32:16",
    "q": "*fp8e4nv:16",
    "scale": "*fp32:16",
    "inverse": "*fp32:16",
    "m": "i32:16",
    "d": "i32:16",
    "eps": "fp32",
}
_WITHOUT_Y = {"y": None, "WRITE_Y": False, "POWER_OF_TWO": True}

BUILDS = [
    *builds("rms_norm_quantize_7168", norm_kernel, _TYPES, {**_WITHOUT_Y, "ROWS": 1, "TILES": 64}),
    *builds("rms_norm_quantize_1536", norm_kernel, _TYPES, {**_WITHOUT_Y, "ROWS": 2, "TILES": 16}),
    *builds("rms_norm_quantize_512", norm_kernel, _TYPES, {**_WITHOUT_Y, "ROWS": 8, "TILES": 4}),
    *builds(
        "rms_norm_quantize_y_7168",
        norm_kernel,
        {**_TYPES, "y": "*bf16:16"},
        {"ROWS": 1, "TILES": 64, "WRITE_Y": True, "POWER_OF_TWO": True},
    ),
]
