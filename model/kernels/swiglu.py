"""SwiGLU fused with the quantisation of its output, forward and backward.

h = silu(gate) * up, for gate and up side by side in [m, 2f] (Shazeer 2020). Between the two
products of a feed-forward network stands nothing else, so its output is written as FP8 tiles right
away: the bfloat16 h, 2 bytes written and 2 read again, never exists. As in the report (section
3.3.3) its input may be kept in FP8 tiles, and the backward pass computes h anew from it.

Backward, one launch reads the gradient of h and the kept gate and up once and writes everything the
two layers' four products need: the gradient of gate and up in tiles along features (for the input's
gradient) and, transposed, along tokens (for the first weight's), and h, transposed, along tokens
(for the second's). With a = sigmoid(gate):

    d gate = dh * up * a * (1 + gate * (1 - a))        d up = dh * gate * a

Three programs share a block, one for each result, and find it in the L2 cache: all three in one
need 255 registers and spill.

All in float32; only the roundings to FP8 are those of `model.fp8`, to the byte of what was
computed, and the exponential is the machine's (2 units in the last place). The twins beside the
kernels are `swiglu_reference` and `swiglu_backward_reference`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from model import fp8
from model.kernels.accepted import E4M3, NUMBERS, SCALES, expect
from model.kernels.compile import builds, tuned
from model.kernels.quantize import empty_tiles
from model.kernels.rounding import TILE, reciprocal, round_rows, store_columns

FORWARD_CONFIGS = [
    triton.Config({"BLOCK": 16}, num_warps=4),
    triton.Config({"BLOCK": 32}, num_warps=4),
    triton.Config({"BLOCK": 32}, num_warps=8),
]
BACKWARD_CONFIGS = [
    triton.Config({}, num_warps=8, maxnreg=128),
    triton.Config({}, num_warps=16),
]


@triton.jit
def _sigmoid(x):
    return reciprocal(1.0 + tl.exp(-x))


@triton.jit
def _load(x, x_scale, corner, scales, at, below, inside, fits, DEQUANTIZE: tl.constexpr):
    """A block of gate or up as float32: `at` from `corner`, its rows' scales `below` from `scales`.

    64-bit arithmetic once for the block, 32 bits for places in it: that saves registers.
    """
    block = tl.load(x + corner + at, mask=inside, other=0.0).to(tl.float32)
    if DEQUANTIZE:
        block *= tl.load(x_scale + scales + below, mask=fits, other=1.0)[:, None]
    return block


@tuned(FORWARD_CONFIGS, key=["m", "f"])
@triton.jit
def forward_kernel(
    x,
    x_scale,
    q,
    scale,
    m,
    f,
    x_scale_row,
    x_scale_column,
    DEQUANTIZE: tl.constexpr,
    POWER_OF_TWO: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """x [m, 2f] to q [m, f] and scale [m, f/128], m innermost; grid (f/128, m/BLOCK)."""
    wide, first = tl.program_id(0), tl.program_id(1).to(tl.int64) * BLOCK
    side, across = tl.arange(0, BLOCK), tl.arange(0, TILE)
    rows, columns = m - first, f - wide * TILE  # how many are left from here
    corner = first * 2 * f + wide * TILE
    at = side[:, None] * (2 * f) + across[None, :]
    inside = (side[:, None] < rows) & (across[None, :] < columns)
    fits = side < rows
    of_gate, below = first * x_scale_row + wide.to(tl.int64) * x_scale_column, side * x_scale_row
    gate = _load(x, x_scale, corner, of_gate, at, below, inside, fits, DEQUANTIZE)
    of_up = of_gate + tl.cdiv(f, TILE).to(tl.int64) * x_scale_column
    up = _load(x, x_scale, corner + f, of_up, at, below, inside, fits, DEQUANTIZE)
    rounded, scales = round_rows(gate * _sigmoid(gate) * up, POWER_OF_TWO)
    corner = first * f + wide * TILE
    tl.store(q + corner + (side[:, None] * f + across[None, :]), rounded, mask=inside)
    tl.store(scale + (wide.to(tl.int64) * m + first) + side, scales, mask=fits)


@tuned(BACKWARD_CONFIGS, key=["m", "f"])
@triton.jit
def backward_kernel(
    grad,
    x,
    x_scale,
    q,
    scale,
    qt,
    qt_scale,
    ht,
    ht_scale,
    m,
    f,
    x_scale_row,
    x_scale_column,
    DEQUANTIZE: tl.constexpr,
    POWER_OF_TWO: tl.constexpr,
):
    """grad [m, f] and x [m, 2f] to q [m, 2f], qt [2f, m] and ht [f, m]; grid (3 f/128, m/128).

    f is a multiple of 128, so that a tile is of gate or of up. Neighbouring programs make the
    gradient of gate, of up, and h from the same blocks.
    """
    result, wide, tall = tl.program_id(0) % 3, tl.program_id(0) // 3, tl.program_id(1)
    halves = tl.num_programs(0) // 3
    side = tl.arange(0, TILE)
    rows = m - tall * TILE
    first = tall.to(tl.int64) * TILE
    fits = side < rows
    down, across = side[:, None], side[None, :]
    inside = (down < rows) & (across < f)  # all columns: f is a multiple of 128
    corner = first * 2 * f + wide * TILE
    at = down * (2 * f) + across
    of_gate, below = first * x_scale_row + wide.to(tl.int64) * x_scale_column, side * x_scale_row
    of_up = of_gate + halves.to(tl.int64) * x_scale_column
    # What a result doesn't need is not read; branches would cost more registers than that.
    wants_up, wants_grad = result != 1, result != 2
    for_up = (down < tl.where(wants_up, rows, 0)) & (across < f)
    for_grad = (down < tl.where(wants_grad, rows, 0)) & (across < f)
    up = _load(x, x_scale, corner + f, of_up, at, below, for_up, fits, DEQUANTIZE)
    along = down * f + across
    dh = tl.load(grad + (first * f + wide * TILE) + along, mask=for_grad, other=0.0)
    d = tl.where(wants_up, up, 1.0) * tl.where(wants_grad, dh.to(tl.float32), 1.0)
    gate = _load(x, x_scale, corner, of_gate, at, below, inside, fits, DEQUANTIZE)
    a = _sigmoid(gate)
    d *= tl.where(result == 0, a * (1.0 + gate * (1.0 - a)), gate * a)
    column = wide + tl.where(result == 1, halves, 0)
    if wants_grad:
        rounded, scales = round_rows(d, POWER_OF_TWO)
        tl.store(q + (first * 2 * f + column * TILE) + at, rounded, mask=inside)
        tl.store(scale + (column.to(tl.int64) * m + first) + side, scales, mask=fits)
    else:
        qt, qt_scale = ht, ht_scale
    width = tl.where(result == 2, f, 2 * f)
    store_columns(d, qt, qt_scale, tall, column, m, width, POWER_OF_TWO)


def swiglu_quantize(
    x: Tensor, x_scale: Tensor | None = None, *, power_of_two: bool = False
) -> tuple[Tensor, Tensor]:
    """silu(gate) * up in 1 x 128 tiles, E4M3 [m, f] and scales [m, f/128].

    x: gate and up [m, 2f], bfloat16 or float32; or E4M3 with scales [m, 2f/128], f then a multiple
    of 128 (ValueError otherwise).
    """
    m, f = _check(x, x_scale)
    q, scale = empty_tiles(x, m, f)
    grid = lambda meta: (triton.cdiv(f, fp8.TILE), triton.cdiv(m, meta["BLOCK"]))  # noqa: E731
    if q.numel():
        steps = (0, 0) if x_scale is None else x_scale.stride()
        options = {"DEQUANTIZE": x_scale is not None, "POWER_OF_TWO": power_of_two}
        forward_kernel[grid](x.contiguous(), x_scale, q, scale, m, f, *steps, **options)
    return q, scale


def swiglu_quantize_backward(
    grad: Tensor, x: Tensor, x_scale: Tensor | None = None, *, power_of_two: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """From the gradient of h, bfloat16 or float32 [m, f], and x as forward, f a multiple of 128:

    the gradient of x, E4M3 [m, 2f] and scales [m, 2f/128]; the same along m, [2f, m] and scales
    [2f, m/128]; h along m, [f, m] and scales [f, m/128]. ValueError for any other f.
    """
    m, f = _check(x, x_scale)
    expect("SwiGLU backward", "grad", grad, NUMBERS)
    if f % fp8.TILE or grad.shape != (m, f):
        raise ValueError(
            f"SwiGLU backward: gradient {list(grad.shape)} for inputs {list(x.shape)}, expected "
            f"[{m}, {f}] with a multiple of 128 columns"
        )
    rows, columns, h = empty_tiles(x, m, 2 * f), empty_tiles(x, 2 * f, m), empty_tiles(x, f, m)
    if grad.numel():
        grid = (3 * (f // fp8.TILE), triton.cdiv(m, fp8.TILE))
        steps = (0, 0) if x_scale is None else x_scale.stride()
        options = {"DEQUANTIZE": x_scale is not None, "POWER_OF_TWO": power_of_two}
        tensors = grad.contiguous(), x.contiguous(), x_scale, *rows, *columns, *h
        backward_kernel[grid](*tensors, m, f, *steps, **options)
    return *rows, *columns, *h


def _check(x: Tensor, x_scale: Tensor | None) -> tuple[int, int]:
    m, f = x.shape[0], x.shape[1] // 2
    if x.shape[1] % 2 or (x_scale is not None and f % fp8.TILE):
        multiple = 2 if x_scale is None else 2 * fp8.TILE
        raise ValueError(
            f"SwiGLU of [{m}, {x.shape[1]}]: expected a multiple of {multiple} columns"
        )
    expect("SwiGLU", "x", x, NUMBERS if x_scale is None else E4M3)
    expect("SwiGLU", "x_scale", x_scale, SCALES, (m, 2 * f // fp8.TILE))
    return m, f


def swiglu_reference(x: Tensor) -> Tensor:
    """silu(gate) * up of gate and up [m, 2f], in the precision of x."""
    gate, up = x.chunk(2, 1)
    return gate * gate.sigmoid() * up


def swiglu_backward_reference(grad: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of x [m, 2f] and h [m, f], in the precision of x."""
    gate, up = x.chunk(2, 1)
    a = gate.sigmoid()
    d_gate = grad * up * a * (1 + gate * (1 - a))
    return torch.cat([d_gate, grad * gate * a], 1), swiglu_reference(x)


_KEPT = {"x": "*fp8e4nv:16", "x_scale": "*fp32:16", "x_scale_column": "i32:16"}
_PLAIN = {"x_scale": None, "x_scale_row": 0, "x_scale_column": 0, "DEQUANTIZE": False}
_OUT = {"q": "*fp8e4nv:16", "scale": "*fp32:16", "m": "i32:16", "f": "i32:16"}
_BACK = {
    "grad": "*bf16:16",
    **dict.fromkeys(("qt", "ht"), "*fp8e4nv:16"),
    **dict.fromkeys(("qt_scale", "ht_scale"), "*fp32:16"),
    **_OUT,
}
_FROM_FP8 = {"x_scale_row": 1, "DEQUANTIZE": True, "POWER_OF_TWO": True}

BUILDS = [
    *builds(
        "swiglu_quantize",
        forward_kernel,
        {"x": "*bf16:16", **_OUT},
        {**_PLAIN, "POWER_OF_TWO": True},
    ),
    *builds("swiglu_quantize_kept", forward_kernel, {**_KEPT, **_OUT}, _FROM_FP8),
    *builds("swiglu_quantize_backward", backward_kernel, {**_KEPT, **_BACK}, _FROM_FP8),
    *builds(
        "swiglu_quantize_backward_bf16",
        backward_kernel,
        {"x": "*bf16:16", **_BACK},
        {**_PLAIN, "POWER_OF_TWO": False},
    ),
]
