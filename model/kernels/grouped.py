"""FP8 products of many experts in one launch: rows by their expert's matrix, and its gradient.

An expert's rows lie together. Where they start and how many there are is on the GPU alone, so that
no launch waits for the host:

    training   `starts` are the running sum of `counts` (the contiguous layout)
    decoding   expert e has room for `capacity` rows from e x capacity on and `counts[e]` of them
               are filled (the masked layout, whose launch is the same for any counts, as a CUDA
               graph needs)

which are one kernel: it looks up which expert a tile of rows belongs to. Each program adds up the
tiles of all experts before its own (a scan over E numbers, some hundred cycles against about
30,000 for a tile of K = 7,168), and there are as many programs as tiles can be at most; the
superfluous ones end at once. A tile may run past its expert's last row: TMA reads the next
expert's, and what comes of them is not written. So groups may be of any size, empty ones too.

The weight's gradient sums over an expert's rows in tiles of 128 along them, so here every group
must begin at a multiple of 128 in the transposed operands, filled up with zeros: `steps` [E + 1]
says at which multiple. An expert without rows has a gradient of zeros.

The inner loop is `product.promoted`: 197 instructions a pass, 168 registers for the rows of 128 x
128 on 8 warps, 261 and 166 for the gradient, none spilled (`resources.tsv`).
"""

from itertools import pairwise

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.fp8 import scaled_product
from model.kernels.accepted import COUNTS, E4M3, SCALES, expect
from model.kernels.compile import tuned
from model.kernels.product import (
    CONFIGS,
    FEW,
    TILE,
    TOGETHER,
    by_column,
    product_builds,
    promoted,
    tensor_map,
    tile_of,
)
from model.kernels.rounding import cast

NAME = "grouped FP8 product"


@tuned(CONFIGS, key=["N", "K", "SMALL"])
@triton.jit
def _rows_by_expert(
    a,
    b,
    a_scale,
    b_scale,
    out,
    starts,
    counts,
    experts,
    M,
    N,
    K,
    BLOCKS: tl.constexpr,
    SMALL: tl.constexpr,
    EXPERTS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
):
    tile = tl.program_id(1)
    every = tl.arange(0, EXPERTS)
    tiles = tl.cdiv(tl.load(counts + every, mask=every < experts, other=0), BLOCK_M)
    ends = tl.cumsum(tiles, 0)
    expert = tl.sum((ends <= tile).to(tl.int32), 0)
    if expert < experts:
        before = tl.sum(tl.where(every < expert, tiles, 0), 0)
        start = tl.load(starts + expert)
        row = start + (tile - before) * BLOCK_M
        end = tl.minimum(start + tl.load(counts + expert), M)
        steps = tl.cdiv(K, 128)
        column = tl.program_id(0) * BLOCK_N
        block_row = expert * tl.cdiv(N, 128) + column // 128
        total = promoted(
            a,
            b,
            a_scale,
            b_scale + block_row.to(tl.int64) * steps,
            row,
            expert * N + column,
            M,
            experts * N,
            0 * steps,
            steps,
            BLOCKS,
            BLOCK_M,
            BLOCK_N,
            STAGES,
        )
        rows = row + tl.arange(0, BLOCK_M)
        columns = column + tl.arange(0, BLOCK_N)
        tl.store(
            out + rows.to(tl.int64)[:, None] * N + columns[None, :],
            cast(total, out.dtype.element_ty),
            mask=(rows < end)[:, None] & (columns < N)[None, :],
        )


@tuned(CONFIGS, key=["M", "N"])
@triton.jit
def _weight_gradients(
    a,
    b,
    a_scale,
    b_scale,
    out,
    steps,
    M,
    N,
    BLOCKS: tl.constexpr,
    TOGETHER: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
):
    expert = tl.program_id(1)
    first = tl.load(steps + expert)
    tile_m, tile_n = tile_of(tl.program_id(0), tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N), TOGETHER)
    row, column = tile_m * BLOCK_M, tile_n * BLOCK_N
    total = promoted(
        a,
        b,
        a_scale,
        b_scale,
        row,
        column,
        M,
        N,
        first,
        tl.load(steps + expert + 1) - first,
        BLOCKS,
        BLOCK_M,
        BLOCK_N,
        STAGES,
    )
    rows = row + tl.arange(0, BLOCK_M)
    columns = column + tl.arange(0, BLOCK_N)
    tl.store(
        out + expert.to(tl.int64) * M * N + rows.to(tl.int64)[:, None] * N + columns[None, :],
        cast(total, out.dtype.element_ty),
        mask=(rows < M)[:, None] & (columns < N)[None, :],
    )


def grouped_product(
    a: Tensor,
    a_scale: Tensor,
    b: Tensor,
    b_scale: Tensor,
    starts: Tensor,
    counts: Tensor,
    out_dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Rows times their expert's matrix: E4M3 a [rows, k] and b [E, n, k] to [rows, n].

    Expert e has rows starts[e] to starts[e] + counts[e] (int32 [E], no two share a row); rows of
    no expert are left undefined. Scales: a's by tile [rows, k/128], b's by block [E, n/128, k/128].
    """
    (experts, n, k), rows = b.shape, a.shape[0]
    steps, blocks = triton.cdiv(k, TILE), triton.cdiv(n, TILE)
    expect(NAME, "a", a, E4M3, (rows, k))
    expect(NAME, "a_scale", a_scale, SCALES, (rows, steps))
    expect(NAME, "b", b, E4M3)
    expect(NAME, "b_scale", b_scale, SCALES, (experts, blocks, steps))
    expect(NAME, "starts", starts, COUNTS, (experts,))
    expect(NAME, "counts", counts, COUNTS, (experts,))
    out = torch.empty(rows, n, dtype=out_dtype, device=a.device)
    if 0 in (rows, n, k, experts):
        return out.zero_()

    def grid(meta):
        # No more tiles than whole ones in all rows and a partial one for each expert.
        return triton.cdiv(n, meta["BLOCK_N"]), rows // meta["BLOCK_M"] + min(experts, rows)

    _rows_by_expert[grid](
        tensor_map(a),
        tensor_map(b.flatten(0, 1)),
        by_column(a_scale),
        b_scale.contiguous(),
        out,
        starts.contiguous(),
        counts.contiguous(),
        experts,
        rows,
        n,
        k,
        BLOCKS=True,
        SMALL=rows <= FEW * experts,
        EXPERTS=triton.next_power_of_2(experts),
    )
    return out


def grouped_weight_gradient(
    a: Tensor,
    a_scale: Tensor,
    b: Tensor,
    b_scale: Tensor,
    steps: Tensor,
    out_dtype: torch.dtype = torch.float32,
) -> Tensor:
    """dW of every expert: E4M3 dy^T [n, p] and x^T [k, p] to [E, n, k].

    Expert e has columns 128 steps[e] to 128 steps[e + 1] (int32 [E + 1]), those without a row zero.
    Scales are by tile, [n, p/128] and [k, p/128].
    """
    (m, p), n, experts = a.shape, b.shape[0], len(steps) - 1
    expect(NAME, "a", a, E4M3)
    expect(NAME, "a_scale", a_scale, SCALES, (m, triton.cdiv(p, TILE)))
    expect(NAME, "b", b, E4M3, (n, p))
    expect(NAME, "b_scale", b_scale, SCALES, (n, triton.cdiv(p, TILE)))
    expect(NAME, "steps", steps, COUNTS)
    out = torch.empty(experts, m, n, dtype=out_dtype, device=a.device)
    if 0 in (m, n, p, experts):
        return out.zero_()

    def grid(meta):
        return triton.cdiv(m, meta["BLOCK_M"]) * triton.cdiv(n, meta["BLOCK_N"]), experts

    _weight_gradients[grid](
        tensor_map(a),
        tensor_map(b),
        by_column(a_scale),
        by_column(b_scale),
        out,
        steps.contiguous(),
        m,
        n,
        BLOCKS=False,
        TOGETHER=TOGETHER,
    )
    return out


def grouped_product_reference(a, a_scale, b, b_scale, starts, counts) -> Tensor:
    """`grouped_product` expert by expert on `model.fp8`; rows of no expert are NaN."""
    out = torch.full((a.shape[0], b.shape[1]), float("nan"), device=a.device)
    for e, (start, count) in enumerate(zip(starts.tolist(), counts.tolist(), strict=True)):
        rows = slice(start, start + count)
        out[rows] = scaled_product(a[rows], a_scale[rows], b[e], b_scale[e])
    return out


def grouped_weight_gradient_reference(a, a_scale, b, b_scale, steps) -> Tensor:
    """`grouped_weight_gradient` expert by expert on `model.fp8`."""
    bounds = steps.tolist()
    products = []
    for first, end in pairwise(bounds):
        inner, tiles = slice(first * TILE, end * TILE), slice(first, end)
        products.append(
            scaled_product(a[:, inner], a_scale[:, tiles], b[:, inner], b_scale[:, tiles])
        )
    return torch.stack(products)


BUILDS = product_builds(
    "grouped-rows",
    _rows_by_expert,
    {
        "out": "*bf16:16",
        "starts": "*i32:16",
        "counts": "*i32:16",
        "experts": "i32:16",
        "M": "i32:16",
        "N": "i32:16",
        "K": "i32:16",
    },
    {"SMALL": False, "EXPERTS": 64},
    True,
) + product_builds(
    "grouped-gradient",
    _weight_gradients,
    {"out": "*fp32:16", "steps": "*i32:16", "M": "i32:16", "N": "i32:16"},
    {"TOGETHER": TOGETHER},
    False,
)
