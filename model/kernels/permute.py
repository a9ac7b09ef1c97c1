"""Bring tokens to their experts in FP8, and their results back in full precision.

`dispatch` quantises each token once and writes the same bytes to the rows of its K experts: a
bfloat16 row is read once and K rows of half the bytes are written, which is also what an all-to-all
between ranks then moves (the report, section 3.3.3: FP8 and power-of-two scales out, bfloat16
back). `combine` adds up each token's K results weighted by its gates. The two are each other's
backward pass: the gradient of a combine is a dispatch of the output's gradient, each copy times its
gate, and the gradient of a dispatch is a combine without gates. A gate multiplies the scales, not
the numbers: gate * (q * scale) = q * (gate * scale), so it costs nothing and rounds nothing.

Rows of an expert lie together and begin at a multiple of 128 (`plan`), because the weight gradient
sums over rows in tiles of 128 and a tile must not mix experts. The up to 127 rows between are
written as zeros with scale 1, so that any sum over them is zero. No atomics: every row knows its
token, every token its rows, and results are the same bytes each time.

Legend: T tokens, K experts each, E experts, R rows with those between, d hidden size.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from model import fp8
from model.kernels.accepted import NUMBERS, expect
from model.kernels.compile import builds, tuned
from model.kernels.quantize import empty_tiles
from model.kernels.rounding import TILE, cast, largest, round_tiles, tile_scale

CONFIGS = [triton.Config({}, num_warps=w) for w in (4, 8, 16)]


class Plan(NamedTuple):
    """Which row is whose: `position` int32 [T, K], the row of each token's k-th copy; `between`
    int32 [B], the rows that are nobody's; `starts` and `counts` int32 [E], an expert's first row
    and its number of tokens; `rows`, R."""

    position: Tensor
    between: Tensor
    starts: Tensor
    counts: Tensor
    rows: int


def plan(chosen: Tensor, experts: int, multiple: int = fp8.TILE) -> Plan:
    """Lay the rows of `chosen`, int [T, K] expert indices, out by expert, tokens in order.

    Each expert begins at a `multiple`. R is the most that any choice of T K experts can need, so
    that it is known without waiting for the device: T K rows and as many between as there may be.
    """
    device, flat = chosen.device, chosen.flatten().long()
    counts = torch.bincount(flat, minlength=experts)
    room = (counts + multiple - 1) // multiple * multiple
    starts = room.cumsum(0) - room
    order = flat.argsort(stable=True)
    of_expert = flat[order]
    within = torch.arange(len(flat), device=device) - (counts.cumsum(0) - counts)[of_expert]
    position = torch.empty_like(flat)
    position[order] = starts[of_expert] + within
    filled = min(experts, len(flat))  # experts that have any
    rows = (len(flat) + filled * (multiple - 1)) // multiple * multiple
    free = torch.ones(rows, dtype=torch.bool, device=device)
    free[position] = False
    # As many as R leaves over, whatever was chosen; sorting keeps the number known.
    between = free.to(torch.uint8).argsort(descending=True, stable=True)[: rows - len(flat)]
    small = [t.to(torch.int32) for t in (position.view(chosen.shape), between, starts, counts)]
    return Plan(*small, rows)


@tuned(CONFIGS, key=["d"])
@triton.jit
def dispatch_kernel(
    x,
    gates,
    position,
    between,
    q,
    scale,
    tokens,
    rows,
    d,
    K: tl.constexpr,
    TILES: tl.constexpr,
    WEIGHTED: tl.constexpr,
    POWER_OF_TWO: tl.constexpr,
):
    """x [T, d] to q [R, d] and scale [R, d/128], rows innermost; grid (T + B,).

    Programs after the T tokens write one row between experts each.
    """
    token = tl.program_id(0)
    tile, lane = tl.arange(0, TILES), tl.arange(0, TILE)
    at = tile[:, None] * TILE + lane[None, :]
    inside, fits = at < d, tile * TILE < d
    places = tile.to(tl.int64) * rows
    if token < tokens:
        block = tl.load(x + token.to(tl.int64) * d + at, mask=inside, other=0.0).to(tl.float32)
        scales = tile_scale(largest(block, 1), POWER_OF_TWO)
        rounded = round_tiles(block, scales[:, None], POWER_OF_TWO)
        for k in range(K):
            row = tl.load(position + token * K + k).to(tl.int64)
            tl.store(q + row * d + at, rounded, mask=inside)
            if WEIGHTED:
                gate = tl.load(gates + token * K + k).to(tl.float32)
                tl.store(scale + places + row, scales * gate, mask=fits)
            else:
                tl.store(scale + places + row, scales, mask=fits)
    else:
        row = tl.load(between + token - tokens).to(tl.int64)
        tl.store(q + row * d + at, tl.zeros((TILES, TILE), tl.float32).to(tl.float8e4nv), inside)
        tl.store(scale + places + row, tl.full((TILES,), 1.0, tl.float32), mask=fits)


@tuned(CONFIGS, key=["d"])
@triton.jit
def combine_kernel(
    rows,
    gates,
    position,
    out,
    d,
    K: tl.constexpr,
    BLOCK: tl.constexpr,
    WEIGHTED: tl.constexpr,
):
    """rows [R, d] to out [T, d], the sum of each token's K rows, by float32; grid (T,)."""
    token = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for k in tl.static_range(K):
        row = tl.load(position + token * K + k).to(tl.int64)
        part = tl.load(rows + row * d + at, mask=at < d, other=0.0).to(tl.float32)
        if WEIGHTED:
            part *= tl.load(gates + token * K + k).to(tl.float32)
        total += part
    tl.store(out + token.to(tl.int64) * d + at, cast(total, out.dtype.element_ty), mask=at < d)


@tuned(CONFIGS, key=["d"])
@triton.jit
def gate_gradient_kernel(grad, rows, position, grad_gates, d, K: tl.constexpr, BLOCK: tl.constexpr):
    """grad [T, d] times each of its K rows [R, d], summed, to grad_gates [T, K]; grid (T,)."""
    token = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    g = tl.load(grad + token.to(tl.int64) * d + at, mask=at < d, other=0.0).to(tl.float32)
    for k in tl.static_range(K):
        row = tl.load(position + token * K + k).to(tl.int64)
        part = tl.load(rows + row * d + at, mask=at < d, other=0.0).to(tl.float32)
        tl.store(grad_gates + token * K + k, tl.sum(g * part, 0))


def dispatch(
    x: Tensor, layout: Plan, gates: Tensor | None = None, *, power_of_two: bool = True
) -> tuple[Tensor, Tensor]:
    """x [T, d], bfloat16 or float32, to its experts' rows: E4M3 [R, d] and scales [R, d/128].

    With `gates` [T, K] each copy is worth that many times its token (the gradient of `combine`):
    its scales are, which are then no powers of two. d is at most 8,192, ValueError if more.
    """
    tokens, d = x.shape
    tiles = triton.next_power_of_2(triton.cdiv(d, fp8.TILE))
    _check_width(d)
    expect("dispatch", "x", x, NUMBERS, (layout.position.shape[0], d))
    expect("dispatch", "gates", gates, NUMBERS, layout.position.shape)
    q, scale = empty_tiles(x, layout.rows, d)
    if q.numel():
        tensors = x.contiguous(), gates if gates is None else gates.contiguous()
        options = {"WEIGHTED": gates is not None, "POWER_OF_TWO": power_of_two}
        sizes = {"K": layout.position.shape[1], "TILES": tiles}
        grid = (tokens + len(layout.between),)
        where = layout.position, layout.between
        dispatch_kernel[grid](
            *tensors, *where, q, scale, tokens, layout.rows, d, **sizes, **options
        )
    return q, scale


def combine(rows: Tensor, layout: Plan, gates: Tensor | None = None) -> Tensor:
    """rows [R, d] back to tokens, [T, d] in the type of rows: the sum of each one's K, by float32,

    weighted by `gates` [T, K] or, for the gradient of `dispatch`, not.
    """
    (tokens, k), d = layout.position.shape, rows.shape[1]
    _check_width(d)
    expect("combine", "rows", rows, NUMBERS, (layout.rows, d))
    expect("combine", "gates", gates, NUMBERS, layout.position.shape)
    out = torch.empty(tokens, d, dtype=rows.dtype, device=rows.device)
    if out.numel():
        tensors = rows.contiguous(), gates if gates is None else gates.contiguous()
        options = {"K": k, "BLOCK": triton.next_power_of_2(d), "WEIGHTED": gates is not None}
        combine_kernel[(tokens,)](*tensors, layout.position, out, d, **options)
    return out


def gate_gradient(grad: Tensor, rows: Tensor, layout: Plan) -> Tensor:
    """The gradient of `combine`'s gates, float32 [T, K]: grad [T, d] times each of the K rows."""
    (tokens, k), d = layout.position.shape, rows.shape[1]
    _check_width(d)
    expect("gradient of gates", "rows", rows, NUMBERS, (layout.rows, d))
    expect("gradient of gates", "grad", grad, NUMBERS, (tokens, d))
    out = torch.empty(tokens, k, dtype=torch.float32, device=rows.device)
    if out.numel():
        options = {"K": k, "BLOCK": triton.next_power_of_2(d)}
        tensors = grad.contiguous(), rows.contiguous(), layout.position, out
        gate_gradient_kernel[(tokens,)](*tensors, d, **options)
    return out


def _check_width(d: int) -> None:
    if d > 8192:
        raise ValueError(f"experts' rows of {d} numbers: a row must fit in registers, at most 8192")


def dispatch_reference(
    x: Tensor, layout: Plan, gates: Tensor | None = None, *, power_of_two: bool = True
) -> tuple[Tensor, Tensor]:
    """`dispatch` in plain torch."""
    token_q, token_scale = fp8.quantize_tiles(x.float(), power_of_two=power_of_two)
    q = torch.zeros(layout.rows, x.shape[1], dtype=torch.uint8, device=x.device)
    scale = torch.ones(layout.rows, token_scale.shape[1], device=x.device)
    for k in range(layout.position.shape[1]):
        row = layout.position[:, k].long()
        q[row] = token_q.view(torch.uint8)
        scale[row] = token_scale if gates is None else token_scale * gates[:, k, None]
    return q.view(torch.float8_e4m3fn), scale


def combine_reference(rows: Tensor, layout: Plan, gates: Tensor | None = None) -> Tensor:
    """`combine` in plain torch, in the precision of rows."""
    back = rows[layout.position.long()]
    return (back if gates is None else back * gates[:, :, None].to(rows)).sum(1)


_INDEX = {"position": "*i32:16", "d": "i32:16"}
_OUT = {"q": "*fp8e4nv:16", "scale": "*fp32:16", "between": "*i32:16", "tokens": "i32:16"}
_DISPATCH = {"x": "*bf16:16", **_OUT, "rows": "i32:16", **_INDEX}
_COMBINE = {"rows": "*bf16:16", "out": "*bf16:16", **_INDEX}
_V3 = {"K": 8, "TILES": 64, "POWER_OF_TWO": True}

BUILDS = [
    *builds("dispatch", dispatch_kernel, _DISPATCH, {**_V3, "gates": None, "WEIGHTED": False}),
    *builds(
        "dispatch_weighted",
        dispatch_kernel,
        {**_DISPATCH, "gates": "*fp32:16"},
        {**_V3, "WEIGHTED": True},
    ),
    *builds(
        "combine",
        combine_kernel,
        {**_COMBINE, "gates": "*fp32:16"},
        {"K": 8, "BLOCK": 8192, "WEIGHTED": True},
    ),
    *builds(
        "gate_gradient",
        gate_gradient_kernel,
        {"grad": "*bf16:16", "rows": "*bf16:16", "grad_gates": "*fp32:16", **_INDEX},
        {"K": 8, "BLOCK": 8192},
    ),
]
