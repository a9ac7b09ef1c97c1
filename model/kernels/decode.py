"""MLA decoding: a few new tokens attend to the compressed cache, 512 + 64 numbers a token.

The matrices that would make keys and values of the latents have been applied to the queries before
and are applied to the result after (the absorption of section 2.1.2 of the DeepSeek-V2 report), so
all heads share one key, the latent with its rotary part, and one value, the latent: what is read is
1,152 bytes a token in bfloat16, and 128 heads do 242 operations with each byte.

How it works. A program takes a block of rows (new token, head), half of the value's columns, and
one of several splits of the sequence; it walks over its tokens with the running softmax of
FlashAttention and leaves its sum, and the logarithm of its weight. A second kernel merges the
splits. The split makes enough programs for 132 multiprocessors when few sequences are long; each
sequence is cut in equal parts by its own length, which only the GPU knows. New token i of l sees
the tokens before it and itself.

The cache lies in pages, [pages, page, c + r], of which `table` [b, n] names each sequence's in
order; a contiguous one is a single page a sequence. What lies behind a sequence's length is never
used, be it undefined.

What it costs, read from the machine code (Triton 3.9.0, sm_90a; `resources.tsv`). A sum of 64 x 512
takes 256 registers a thread on 4 warps, and on 8 Triton has both halves of the block compute the
same scores; together with the addresses of 18 copies and the descriptors of the queries' shared
memory, kept over the loop, that spilled 88 to 2,016 bytes of stack in every shape tried, with
tensor copies (TMA) too. Half of the columns a program fits without a spill: 128 rows on 8 warps
take 247 registers and 216 KiB, 64 rows on 4 warps 243 and 144, or with half the tokens a pass 236
and 108, so that two blocks share a multiprocessor. A pass over 32 tokens is 36 HGMMA 64x32x16 for
the scores, 2 of 64x256x16 for the sums, 128 FMUL that shrink them and 9 (18) copies of 16 bytes a
thread, 633 (713) instructions in all. So the scores are computed twice and the cache is read twice,
the second time from L2: 1,664 products a token and row where 1,088 would do.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.kernels.accepted import COUNTS, NUMBERS, expect
from model.kernels.compile import Build, builds, tuned
from model.kernels.rounding import cast

MULTIPROCESSORS = 132
# Tokens a split is worth starting for.
FEWEST = 256
WIDEST = 256
# A page holds whole blocks of tokens.
PAGE_UNIT = 64


def _config(rows: int, tokens: int, warps: int, stages: int) -> triton.Config:
    return triton.Config({"BLOCK_M": rows, "BLOCK_T": tokens, "STAGES": stages}, warps, stages)


CONFIGS = [_config(128, 32, 8, 2), _config(64, 32, 4, 3), _config(64, 16, 4, 4)]


@tuned(CONFIGS, key=["heads", "C", "R"])
@triton.jit
def _attend(
    q,
    cache,
    table,
    lengths,
    mixed,
    weight,
    scale,
    rows,
    heads,
    new,
    page,
    pages,
    splits,
    C: tl.constexpr,
    R: tl.constexpr,
    PARTS: tl.constexpr,
    VALUE: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_T: tl.constexpr,
    STAGES: tl.constexpr,
):
    sequence = tl.program_id(2).to(tl.int64)
    split = tl.program_id(1)
    part = tl.program_id(0) % PARTS
    row = tl.program_id(0) // PARTS * BLOCK_M + tl.arange(0, BLOCK_M)
    real = (row < rows)[:, None]
    # The columns of the latent whose values are mixed here, the other ones, the rotary ones.
    own = part * VALUE + tl.arange(0, VALUE)
    other = (1 - part) * VALUE + tl.arange(0, VALUE)
    turned = C + tl.arange(0, BLOCK_R)
    query = q + (sequence * rows + row)[:, None] * (C + R)
    q_own = tl.load(query + own[None, :], mask=real & (own < C)[None, :], other=0.0)
    if PARTS == 2:
        q_other = tl.load(query + other[None, :], mask=real & (other < C)[None, :], other=0.0)
    q_turned = tl.load(query + turned[None, :], mask=real & (turned < C + R)[None, :], other=0.0)

    length = tl.load(lengths + sequence)
    visible = length - new + 1 + row // heads
    chunk = tl.cdiv(tl.cdiv(length, splits), BLOCK_T) * BLOCK_T
    start = split * chunk
    stop = tl.minimum(start + chunk, length)
    highest = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    sums = tl.zeros((BLOCK_M, VALUE), tl.float32)
    inside = tl.arange(0, BLOCK_T)
    for first in tl.range(start, stop, BLOCK_T, num_stages=STAGES):
        number = tl.load(table + sequence * pages + first // page).to(tl.int64)
        base = number * page + first % page
        token = first + inside
        known = (token < stop)[:, None]
        key = cache + base * (C + R) + inside[:, None] * (C + R)
        k_own = tl.load(key + own[None, :], mask=known & (own < C)[None, :], other=0.0)
        k_turned = tl.load(key + turned[None, :], mask=known & (turned < C + R)[None, :], other=0.0)
        scores = tl.dot(q_own, k_own.T, input_precision="ieee")
        if PARTS == 2:
            k_other = tl.load(key + other[None, :], mask=known & (other < C)[None, :], other=0.0)
            scores = tl.dot(q_other, k_other.T, scores, input_precision="ieee")
        scores = tl.dot(q_turned, k_turned.T, scores, input_precision="ieee") * scale
        seen = token[None, :] < tl.minimum(visible, stop)[:, None]
        scores = tl.where(seen, scores, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, 1))
        # A row that has seen nothing yet keeps a weight of zero.
        level = tl.where(higher == float("-inf"), 0.0, higher)
        p = tl.exp2(scores - level[:, None])
        shrink = tl.exp2(highest - level)
        total = total * shrink + tl.sum(p, 1)
        sums = tl.dot(p.to(k_own.dtype), k_own, sums * shrink[:, None], input_precision="ieee")
        highest = higher
    at = (split * tl.num_programs(2) + sequence) * rows + row
    tl.store(weight + at, highest + tl.log2(total), mask=row < rows)
    mean = sums / tl.where(total == 0.0, 1.0, total)[:, None]
    tl.store(mixed + at[:, None] * C + own[None, :], mean, mask=real & (own < C)[None, :])


@triton.jit
def _merge(
    mixed, weight, out, rows, splits, C: tl.constexpr, BLOCK_C: tl.constexpr, SPLITS: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK_C)
    split = tl.arange(0, SPLITS)
    weights = tl.load(weight + split * rows + row, mask=split < splits, other=float("-inf"))
    highest = tl.max(weights, 0)
    level = tl.where(highest == float("-inf"), 0.0, highest)
    total = tl.sum(tl.exp2(weights - level), 0)
    result = tl.zeros((BLOCK_C,), tl.float32)
    for i in range(splits):
        share = tl.exp2(tl.load(weight + i * rows + row) - level)
        at = mixed + (i * rows + row) * C + column
        result += share * tl.load(at, mask=column < C, other=0.0)
    result = result / tl.where(total == 0.0, 1.0, total)
    tl.store(out + row * C + column, cast(result, out.dtype.element_ty), mask=column < C)


def attend_to_latents(
    q: Tensor,
    cache: Tensor,
    lengths: Tensor,
    latent: int,
    scale: float,
    table: Tensor | None = None,
    splits: int | None = None,
) -> Tensor:
    """softmax(q cache^T scale) latents: absorbed queries [b, l, h, c + r] to [b, l, h, c].

    cache: contiguous [b, capacity, c + r], or pages [n, page, c + r] with their `table`, int32 [b,
    pages of a sequence]. lengths: int32 [b], the tokens of each sequence with the l new ones, which
    are the last; a sequence of none gives zeros. `latent` is c. Sums are float32, the result has
    q's dtype: bfloat16 on a GPU, since float32 takes twice the shared memory there is for tiles.
    Raises ValueError for c above 512 and for pages that are not whole blocks of 64 tokens.
    """
    b, new, heads, width = q.shape
    c, rotary = latent, width - latent
    if table is None:
        table = torch.arange(b, dtype=torch.int32, device=q.device)[:, None]
    page, pages = cache.shape[1], table.shape[1]
    if not 1 <= c <= 2 * WIDEST or cache.shape[-1] != width or rotary < 1:
        raise ValueError(
            f"latent of {c} in queries of {width} and a cache of {cache.shape[-1]} numbers: "
            f"expected at most {2 * WIDEST}, fewer than the queries', and the same in both"
        )
    if pages > 1 and page % PAGE_UNIT:
        raise ValueError(f"pages of {page} tokens, expected a multiple of {PAGE_UNIT}")
    expect("decoding", "q", q, NUMBERS)
    expect("decoding", "cache", cache, (q.dtype,))
    expect("decoding", "table", table, COUNTS, (b, pages))
    expect("decoding", "lengths", lengths, COUNTS, (b,))
    rows = new * heads
    out = torch.empty(b, new, heads, c, dtype=q.dtype, device=q.device)
    if out.numel() == 0:
        return out
    value = min(WIDEST, max(16, triton.next_power_of_2(c)))
    parts = triton.cdiv(c, value)
    if splits is None:
        programs = b * parts * triton.cdiv(rows, 64)
        wanted = triton.cdiv(2 * MULTIPROCESSORS, programs)
        splits = max(1, min(wanted, page * pages // FEWEST))
    mixed = torch.empty(splits, b, rows, c, device=q.device)
    weight = torch.empty(splits, b, rows, device=q.device)
    _attend[lambda meta: (triton.cdiv(rows, meta["BLOCK_M"]) * parts, splits, b)](
        q.contiguous(),
        cache.contiguous(),
        table.contiguous(),
        lengths.contiguous(),
        mixed,
        weight,
        scale * math.log2(math.e),
        rows,
        heads,
        new,
        page,
        pages,
        splits,
        C=c,
        R=rotary,
        PARTS=parts,
        VALUE=value,
        BLOCK_R=max(16, triton.next_power_of_2(rotary)),
    )
    _merge[(b * rows,)](
        mixed,
        weight,
        out,
        b * rows,
        splits,
        C=c,
        BLOCK_C=triton.next_power_of_2(c),
        SPLITS=triton.next_power_of_2(splits),
    )
    return out


def attend_to_latents_reference(
    q: Tensor,
    cache: Tensor,
    lengths: Tensor,
    latent: int,
    scale: float,
    table: Tensor | None = None,
) -> Tensor:
    """`attend_to_latents`, a sequence at a time in plain PyTorch."""
    out = torch.zeros_like(q[..., :latent])
    for i, length in enumerate(lengths.tolist()):
        tokens = cache[i] if table is None else cache[table[i].long()].flatten(0, 1)
        known = tokens[:length]
        scores = torch.einsum("lhc,tc->lht", q[i], known) * scale
        new = q.shape[1]
        future = torch.ones(new, length, dtype=torch.bool, device=q.device)
        scores.masked_fill_(future.triu_(length - new + 1)[:, None], float("-inf"))
        if length:
            out[i] = torch.einsum("lht,tc->lhc", scores.softmax(-1), known[:, :latent])
    return out


BUILDS = [
    *builds(
        "decode",
        _attend,
        {
            "q": "*bf16:16",
            "cache": "*bf16:16",
            "table": "*i32:16",
            "lengths": "*i32:16",
            "mixed": "*fp32:16",
            "weight": "*fp32:16",
            "scale": "fp32",
            **dict.fromkeys(("rows", "heads", "page", "pages"), "i32:16"),
            **dict.fromkeys(("new", "splits"), "i32"),
        },
        {"C": 512, "R": 64, "PARTS": 2, "VALUE": 256, "BLOCK_R": 64},
    ),
    Build(
        "decode-merge/w4/s3",
        _merge,
        {
            "mixed": "*fp32:16",
            "weight": "*fp32:16",
            "out": "*bf16:16",
            "rows": "i32:16",
            "splits": "i32",
        },
        {"C": 512, "BLOCK_C": 512, "SPLITS": 16},
    ),
]
