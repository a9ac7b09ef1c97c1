"""Quantise activations to E4M3 in tiles of 128, along rows, along columns, or both at once.

A linear layer's input is needed twice: in 1 x 128 tiles along the features for the product forward,
and, for the weight's gradient, transposed, in tiles along the tokens (figure 6 of the report). Its
output gradient likewise. `quantize` makes either or both of them from one read of a bfloat16 or
float32 matrix; `requantize_columns` makes the second from what was kept of the first, so that a
layer keeps nothing but FP8 for its backward pass.

A block of 128 x 128 numbers is loaded once, 16 bytes a load, stays in registers, is reduced along
both sides, and is transposed through shared memory as bytes, after rounding. There is no loop, so
nothing to pipeline: many blocks on a multiprocessor hide each other's waiting. Bytes a number, from
bfloat16: 2 read, 1 written for each orientation, and 4 / 128 for each scale.

The bytes are those of `model.fp8.quantize_tiles` and `requantize_columns`, which are the reference.
Scales come with the first dimension innermost in memory (strides (1, m)), as both the stores here
and the products' loads want them: a column of scales belongs to 128 columns of the matrix.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from model import fp8
from model.kernels.accepted import E4M3, NUMBERS, SCALES, expect
from model.kernels.compile import builds, tuned
from model.kernels.rounding import TILE, round_rows, store_columns

ROW_CONFIGS = [
    triton.Config({"BLOCK": 32}, num_warps=4),
    triton.Config({"BLOCK": 64}, num_warps=4),
    triton.Config({"BLOCK": 64}, num_warps=8),
]
BLOCK_CONFIGS = [
    triton.Config({}, num_warps=4, maxnreg=168),
    triton.Config({}, num_warps=8),
    triton.Config({}, num_warps=16, maxnreg=64),
]


@tuned(ROW_CONFIGS, key=["m", "k"])
@triton.jit
def tiles_kernel(x, q, scale, m, k, POWER_OF_TWO: tl.constexpr, BLOCK: tl.constexpr):
    """x [m, k] to q [m, k] and scale [m, k/128], m innermost; grid (k/128, m/BLOCK)."""
    rows = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    columns = tl.program_id(0) * TILE + tl.arange(0, TILE)
    at = rows[:, None].to(tl.int64) * k + columns[None, :]
    inside = (rows[:, None] < m) & (columns[None, :] < k)
    block = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    rounded, scales = round_rows(block, POWER_OF_TWO)
    tl.store(q + at, rounded, mask=inside)
    tl.store(scale + tl.program_id(0).to(tl.int64) * m + rows, scales, mask=rows < m)


@tuned(BLOCK_CONFIGS, key=["m", "k"])
@triton.jit
def columns_kernel(
    x,
    x_scale,
    q,
    scale,
    qt,
    qt_scale,
    m,
    k,
    x_scale_row,
    x_scale_column,
    DEQUANTIZE: tl.constexpr,
    ROWS: tl.constexpr,
    POWER_OF_TWO: tl.constexpr,
):
    """x [m, k] to qt [k, m] and qt_scale [k, m/128], k innermost; grid (k/128, m/128).

    With ROWS also to q [m, k] and scale [m, k/128], m innermost. With DEQUANTIZE x is E4M3 and
    x_scale [m, k/128] its scales, of any strides.
    """
    tall, wide = tl.program_id(1), tl.program_id(0)
    side = tl.arange(0, TILE)
    rows, columns = m - tall * TILE, k - wide * TILE  # how many are left from here
    # 64-bit arithmetic once for the block, 32 bits for places in it: that saves registers.
    corner = tall.to(tl.int64) * TILE * k + wide * TILE
    at = side[:, None] * k + side[None, :]
    inside = (side[:, None] < rows) & (side[None, :] < columns)
    block = tl.load(x + corner + at, mask=inside, other=0.0).to(tl.float32)
    if DEQUANTIZE:
        x_scale += tall.to(tl.int64) * TILE * x_scale_row + wide.to(tl.int64) * x_scale_column
        # Other than 0: it must not make NaN of a row outside.
        block *= tl.load(x_scale + side * x_scale_row, mask=side < rows, other=1.0)[:, None]
    if ROWS:
        rounded, scales = round_rows(block, POWER_OF_TWO)
        tl.store(q + corner + at, rounded, mask=inside)
        tl.store(scale + (wide.to(tl.int64) * m + tall * TILE) + side, scales, mask=side < rows)
    store_columns(block, qt, qt_scale, tall, wide, m, k, POWER_OF_TWO)


def empty_tiles(x: Tensor, m: int, k: int) -> tuple[Tensor, Tensor]:
    """Unwritten E4M3 [m, k] and scales [m, k/128] with strides (1, m), where x is."""
    q = torch.empty(m, k, dtype=torch.float8_e4m3fn, device=x.device)
    return q, torch.empty(triton.cdiv(k, fp8.TILE), m, dtype=torch.float32, device=x.device).t()


def quantize_tiles(x: Tensor, *, power_of_two: bool = False) -> tuple[Tensor, Tensor]:
    """x: bfloat16 or float32 [m, k] to E4M3 [m, k] and scales [m, k/128]: 1 x 128 tiles."""
    expect("quantise tiles", "x", x, NUMBERS)
    x = x.contiguous()
    (m, k), (q, scale) = x.shape, empty_tiles(x, *x.shape)
    grid = lambda meta: (triton.cdiv(k, fp8.TILE), triton.cdiv(m, meta["BLOCK"]))  # noqa: E731
    if x.numel():
        tiles_kernel[grid](x, q, scale, m, k, POWER_OF_TWO=power_of_two)
    return q, scale


def quantize_both(
    x: Tensor, *, power_of_two: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x: bfloat16 or float32 [m, k], read once, to both orientations.

    Gives E4M3 [m, k] and scales [m, k/128], then the transpose in tiles along m: E4M3 [k, m] and
    scales [k, m/128].
    """
    expect("quantise both", "x", x, NUMBERS)
    x = x.contiguous()
    m, k = x.shape
    rows, columns = empty_tiles(x, m, k), empty_tiles(x, k, m)
    if x.numel():
        grid = (triton.cdiv(k, fp8.TILE), triton.cdiv(m, fp8.TILE))
        none = {"x_scale_row": 0, "x_scale_column": 0, "DEQUANTIZE": False}
        options = {"ROWS": True, "POWER_OF_TWO": power_of_two}
        columns_kernel[grid](x, None, *rows, *columns, m, k, **none, **options)
    return *rows, *columns


def quantize_columns(x: Tensor, *, power_of_two: bool = False) -> tuple[Tensor, Tensor]:
    """x: bfloat16 or float32 [m, k] to the second half of `quantize_both` alone."""
    return _columns(x, None, power_of_two)


def requantize_columns(
    q: Tensor, scale: Tensor, *, power_of_two: bool = True
) -> tuple[Tensor, Tensor]:
    """E4M3 [m, k] in 1 x 128 tiles straight to E4M3 [k, m] and scales [k, m/128], along m."""
    return _columns(q, scale, power_of_two)


def _columns(x: Tensor, x_scale: Tensor | None, power_of_two: bool) -> tuple[Tensor, Tensor]:
    m, k = x.shape
    expect("quantise columns", "x", x, NUMBERS if x_scale is None else E4M3)
    expect("quantise columns", "scale", x_scale, SCALES, (m, triton.cdiv(k, fp8.TILE)))
    x = x.contiguous()
    columns = empty_tiles(x, k, m)
    if x.numel():
        grid = (triton.cdiv(k, fp8.TILE), triton.cdiv(m, fp8.TILE))
        steps = (0, 0) if x_scale is None else x_scale.stride()
        options = {"DEQUANTIZE": x_scale is not None, "ROWS": False, "POWER_OF_TWO": power_of_two}
        columns_kernel[grid](x, x_scale, None, None, *columns, m, k, *steps, **options)
    return columns


_SIZES = {"m": "i32:16", "k": "i32:16"}
_ROWS = {"q": "*fp8e4nv:16", "scale": "*fp32:16"}
_COLUMNS = {"qt": "*fp8e4nv:16", "qt_scale": "*fp32:16", **_SIZES}
_KEPT = {"x": "*fp8e4nv:16", "x_scale": "*fp32:16", "x_scale_column": "i32:16"}
_PLAIN = {"x_scale": None, "x_scale_row": 0, "x_scale_column": 0, "DEQUANTIZE": False}

BUILDS = [
    *builds(
        "quantize_tiles",
        tiles_kernel,
        {"x": "*bf16:16", **_ROWS, **_SIZES},
        {"POWER_OF_TWO": False},
    ),
    *builds(
        "quantize_tiles_pow2",
        tiles_kernel,
        {"x": "*bf16:16", **_ROWS, **_SIZES},
        {"POWER_OF_TWO": True},
    ),
    *builds(
        "quantize_both",
        columns_kernel,
        {"x": "*bf16:16", **_ROWS, **_COLUMNS},
        {**_PLAIN, "ROWS": True, "POWER_OF_TWO": False},
    ),
    *builds(
        "quantize_both_pow2",
        columns_kernel,
        {"x": "*bf16:16", **_ROWS, **_COLUMNS},
        {**_PLAIN, "ROWS": True, "POWER_OF_TWO": True},
    ),
    *builds(
        "requantize_columns",
        columns_kernel,
        {**_KEPT, **_COLUMNS},
        {
            "x_scale_row": 1,
            "q": None,
            "scale": None,
            "DEQUANTIZE": True,
            "ROWS": False,
            "POWER_OF_TWO": True,
        },
    ),
]
