"""The FP8 product a b^T of section 3.3: E4M3 in, float32 sums promoted after every 128 products.

One kernel makes all three products of a linear layer (Figure 6 of the DeepSeek-V3 report):

    y  = x W^T      a: x in 1 x 128 tiles        b: W in 128 x 128 blocks
    dx = dy W       a: dy in 1 x 128 tiles       b: W^T in 128 x 128 blocks
    dW = dy^T x     a: dy^T, b: x^T, both in 1 x 128 tiles along the tokens

`model.fp8.scaled_product` is the same in plain float32, and the oracle in the tests.

How it works. Hopper's tensor cores read both operands from shared memory with k running fastest,
which is how they lie, and add FP8 products with about 14 bits. So each step multiplies one tile of
128 columns afresh (four `wgmma` of k = 32, the first of which doesn't accumulate), waits, and adds
the result times its scales to float32 registers (Figure 7b). The tiles come by the tensor memory
accelerator (TMA), two or more steps ahead; it wants rows that start at multiples of 16 bytes and
fills what lies outside a matrix with zeros, so that no dimension need be a multiple of anything.
Scales come by asynchronous copies as far ahead. A block has one number a step, which is folded into
the scales of a's rows, so that promoting costs one multiply-add a number; scales of b's rows, in
the weight's gradient, differ by column and cost a second multiplication.

Scales by row must lie with the rows adjacent, [k/128, rows] in memory seen as [rows, k/128], for a
warp to read them in one piece. `product` turns those that don't, at a cost of 4 bytes in 128.

What it costs, read from the machine code (Triton 3.9.0, sm_90a; `resources.tsv` has every build).
The obvious version, 128 x 128 on 4 warps, needs 256 registers a thread for product and sum alone:
it had 255 and 248 bytes of stack. Here nothing spills. A loop pass of 128 x 128 on 8 warps is 192
instructions for blocks: 4 QGMMA 64x128x32, 64 FFMA, 2 UTMALDG, 2 LDGSTS, 5 barriers and the
bookkeeping of the pipeline (155 registers, 97 KiB); 263 for tiles, with 64 FMUL and 16 LDS.64 more
(168 registers). 64 x 128 on 4 warps needs as many registers a thread and half as many threads: 3
blocks fit on a multiprocessor, so that one multiplies while another promotes, which a block alone
can't.

Tried and left out: tiles by `cp.async` (38 additions of addresses a pass, 178 registers); scales
read a step ahead by plain loads (34 of them a pass for tiles, 255 registers), or by TMA (two more
barriers and a fence a pass); 256 columns in two halves (56 bytes of stack); promoting a step late,
for overlap (64 moves a pass and none); Triton's warp specialisation, which can't cut a descriptor's
block between two warp groups.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from model.kernels.accepted import E4M3, SCALES, expect
from model.kernels.compile import Build, tuned
from model.kernels.rounding import cast

TILE = 128
# So many rows of tiles are walked together, column by column: their tiles and those of the columns
# are then still in the L2 cache when the next program wants them.
TOGETHER = 8
# Up to so many rows, decoding: the best shape is not that of training.
FEW = 64


@triton.jit
def tile_of(program, tiles_m, tiles_n, TOGETHER: tl.constexpr):
    """Which tile (row, column) a program computes, `TOGETHER` rows of tiles at a time."""
    group = program // (TOGETHER * tiles_n)
    first = group * TOGETHER
    height = tl.minimum(tiles_m - first, TOGETHER)
    inside = program % (TOGETHER * tiles_n)
    return first + inside % height, inside // height


@triton.jit
def promoted(
    a,
    b,
    a_scale,
    b_scale,
    a_row,
    b_row,
    a_rows,
    b_rows,
    first,
    steps,
    BLOCKS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Σ over `steps` steps of 128 columns, from step `first` on: float32 [BLOCK_M, BLOCK_N].

    a, b: descriptors of E4M3 with blocks [BLOCK_M, 128] and [BLOCK_N, 128]; the tiles start at rows
    a_row and b_row. a_scale: pointer to [k/128, a_rows]. b_scale: a pointer to the scales [k/128]
    of the one block row that the tile lies in (BLOCKS), or to [k/128, b_rows].
    """
    rows = a_row + tl.arange(0, BLOCK_M)
    columns = b_row + tl.arange(0, BLOCK_N)
    a_scale += first.to(tl.int64) * a_rows
    b_scale += first.to(tl.int64) * (1 if BLOCKS else b_rows)
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for step in tl.range(steps, num_stages=STAGES):
        x = a.load([a_row, (first + step) * 128])
        w = b.load([b_row, (first + step) * 128])
        part = tl.dot(x, w.T)
        by_row = tl.load(a_scale + rows, mask=rows < a_rows, other=0.0)
        a_scale += a_rows
        if BLOCKS:
            total += part * (by_row * tl.load(b_scale + step))[:, None]
        else:
            by_column = tl.load(b_scale + columns, mask=columns < b_rows, other=0.0)
            b_scale += b_rows
            total += (part * by_row[:, None]) * by_column[None, :]
    return total


def fit_descriptors(arguments: dict) -> None:
    """Give the descriptors of a launch the block shapes of the configuration being tried."""
    m, n = arguments["BLOCK_M"], arguments["BLOCK_N"]
    arguments["a"].block_shape = [m, TILE]
    arguments["b"].block_shape = [n, TILE]


def _config(m: int, n: int, warps: int, stages: int) -> triton.Config:
    return triton.Config(
        {"BLOCK_M": m, "BLOCK_N": n, "STAGES": stages}, warps, stages, pre_hook=fit_descriptors
    )


CONFIGS = [
    _config(128, 128, 8, 3),
    _config(128, 128, 8, 5),
    _config(64, 128, 4, 3),
    _config(64, 128, 4, 4),
    _config(64, 64, 4, 4),
]


@tuned(CONFIGS, key=["N", "K", "BLOCKS", "SMALL"])
@triton.jit
def _product(
    a,
    b,
    a_scale,
    b_scale,
    out,
    M,
    N,
    K,
    BLOCKS: tl.constexpr,
    SMALL: tl.constexpr,
    TOGETHER: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
):
    steps = tl.cdiv(K, 128)
    tile_m, tile_n = tile_of(tl.program_id(0), tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N), TOGETHER)
    row, column = tile_m * BLOCK_M, tile_n * BLOCK_N
    if BLOCKS:
        b_scale += (column // 128).to(tl.int64) * steps
    total = promoted(
        a,
        b,
        a_scale,
        b_scale,
        row,
        column,
        M,
        N,
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
        mask=(rows < M)[:, None] & (columns < N)[None, :],
    )


def product(
    a: Tensor,
    a_scale: Tensor,
    b: Tensor,
    b_scale: Tensor,
    out_dtype: torch.dtype = torch.float32,
) -> Tensor:
    """a b^T: E4M3 [m, k] and [n, k] to [m, n], promoted to float32 after every 128 of k.

    a_scale: float32 [m, k/128]; b_scale: by row [n, k/128] or by block [n/128, k/128], rounded up.
    Raises ValueError for other types and for shapes that don't belong together.
    """
    check_types(a, a_scale, b, b_scale)
    m, n, k = a.shape[0], b.shape[0], a.shape[1]
    steps = triton.cdiv(k, TILE)
    blocks = b_scale.shape != (n, steps)
    expected = (triton.cdiv(n, TILE), steps) if blocks else (n, steps)
    if b.shape[1] != k or a_scale.shape != (m, steps) or b_scale.shape != expected:
        raise ValueError(
            f"FP8 product of {list(a.shape)} with scales {list(a_scale.shape)} and {list(b.shape)} "
            f"with scales {list(b_scale.shape)}: expected scales [{m}, {steps}] and [{n}, {steps}] "
            f"or [{triton.cdiv(n, TILE)}, {steps}]"
        )
    out = torch.empty(m, n, dtype=out_dtype, device=a.device)
    if 0 in (m, n, k):
        return out.zero_()
    _product[lambda meta: (triton.cdiv(m, meta["BLOCK_M"]) * triton.cdiv(n, meta["BLOCK_N"]),)](
        tensor_map(a),
        tensor_map(b),
        by_column(a_scale),
        b_scale.contiguous() if blocks else by_column(b_scale),
        out,
        m,
        n,
        k,
        BLOCKS=blocks,
        SMALL=m <= FEW,
        TOGETHER=TOGETHER,
    )
    return out


def check_types(a: Tensor, a_scale: Tensor, b: Tensor, b_scale: Tensor) -> None:
    """Raise ValueError unless a and b are E4M3 and their scales float32."""
    for name, q, scale in (("a", a, a_scale), ("b", b, b_scale)):
        expect("FP8 product", name, q, E4M3)
        expect("FP8 product", f"{name}_scale", scale, SCALES)


def tensor_map(q: Tensor) -> TensorDescriptor:
    """A TMA descriptor of E4M3 [rows, k]; copied first if its rows start off 16-byte borders."""
    if q.stride(1) != 1 or q.stride(0) % 16 or q.data_ptr() % 16:
        width = triton.cdiv(q.shape[1], 16) * 16
        wide = q.new_empty(q.shape[0], width)[:, : q.shape[1]]
        wide.view(torch.uint8).copy_(q.view(torch.uint8))
        q = wide
    return TensorDescriptor(q, list(q.shape), list(q.stride()), [1, TILE])


def by_column(scale: Tensor) -> Tensor:
    """The storage [k/128, rows] of scales [rows, k/128]: as it is if rows are adjacent in it."""
    return scale.t().contiguous()


def product_builds(name: str, kernel, types: dict, constants: dict, blocks: bool) -> list[Build]:
    """One `Build` for each configuration of a kernel that begins with a, b and their scales.

    `types` are those of the arguments after them.
    """
    made = []
    for config in kernel.configs:
        m, n = config.kwargs["BLOCK_M"], config.kwargs["BLOCK_N"]
        signature = {
            "a": f"tensordesc<fp8e4nv[{m},128]>",
            "b": f"tensordesc<fp8e4nv[{n},128]>",
            "a_scale": "*fp32:16",
            "b_scale": "*fp32:16",
        }
        made.append(
            Build(
                f"{name}/{m}x{n}/w{config.num_warps}/s{config.num_stages}",
                kernel.fn,
                signature | types,
                constants | config.kwargs | {"BLOCKS": blocks},
                config.num_warps,
                config.num_stages,
            )
        )
    return made


BUILDS = [
    build
    for name, blocks, small, out in (
        ("product-blocks", True, False, "*bf16:16"),
        ("product-tiles", False, False, "*fp32:16"),
    )
    for build in product_builds(
        name,
        _product,
        {"out": out, "M": "i32:16", "N": "i32:16", "K": "i32:16"},
        {"SMALL": small, "TOGETHER": TOGETHER},
        blocks,
    )
]
