"""A linear layer, or one per expert, with all three of its products rounded to FP8 (Figure 6).

    y  = x W^T     x in 1 x 128 tiles along the inputs,  W in 128 x 128 blocks
    dx = dy W      dy in 1 x 128 tiles along the outputs, the same blocks of W
    dW = dy^T x    both in 128 x 1 tiles along the tokens (of one expert)

Where the report has powers of two for scales, so has this: x is kept for the backward pass as it
was rounded, and its tiles are turned to 128 x 1 by rounding that a second time. An expert's rows
come and its gradients go through the dispatch between machines, which carries them in FP8, so the
gradients of experts have powers of two and are turned from their FP8 form as well. Other gradients
are rounded in both directions from float32, with plain scales. The input of the linear after
attention is kept in E5M6 (see `model/e5m6.py`) and turned from that.

Embedding, head, gating, norms, the attention core and the multi-token projection never pass through
here; neither do the master weights, which stay float32. (The report also keeps the inputs of SwiGLU
in FP8 and computes its output again: that saves memory and changes no product here.)

The floor of a tile's maximum, 1e-4, is meant for tiles of zeros, but it also meets gradients that
are small only because the loss was divided by a large batch before the backward pass. On the
quickstart's model the weights' gradients are 8.5% off float32's (by norm) for losses divided by up
to 2^14 tokens, 9.8% for 2^20 and 51% for 2^24. So let sums or a micro-batch's means flow back, and
divide what they add up to.

On a CPU no fast 8-bit product exists. The numbers are rounded exactly as the kernels do, decoded,
and multiplied in float32, whose sums need no promotion; what Hopper's 14-bit sums would do is shown
by `model/fp8_accumulation.py`. Rounding passes over every operand a few times, about 6 ns a number
for both directions, so it weighs the more the narrower a layer is: 2,048 tokens through the
quickstart's model (d = 128) took 1.2 to 1.5 times as long as in float32, with d = 512 1.15 times.
"""

import torch
from torch import Tensor

from model.e5m6 import dequantize_e5m6, quantize_tiles_e5m6
from model.fp8 import (
    E4M3,
    TILE,
    decode_e4m3,
    dequantize,
    quantize_blocks,
    quantize_tiles,
    tile_scale,
)
from model.kernels.switch import enabled

CACHED = 1 << 17  # numbers
KEPT_FORMATS = ("e4m3", "e5m6")


def fp8_linear(x: Tensor, weight: Tensor, keep: str = "e4m3") -> Tensor:
    """x W^T in FP8. x: float32 [..., k], weight: [n, k], result [..., n].

    `keep` is the format in which x waits for the weight's gradient, e4m3 or e5m6.
    """
    rows = x.flatten(0, -2)
    y = _Fp8Products.apply(rows, weight[None], [rows.shape[0]], keep, False)
    return y.unflatten(0, x.shape[:-1])


def fp8_grouped_linear(x: Tensor, weight: Tensor, counts: list[int]) -> Tensor:
    """Rows times their expert's matrix in FP8. x: [rows, k] sorted by expert, weight: [E, n, k].

    `counts` [E] says how many rows each expert has; they sum to `rows`, ValueError if not. Gives
    [rows, n].
    """
    if sum(counts) != len(x):
        raise ValueError(f"experts have {sum(counts)} rows in all, x has {len(x)}")
    return _Fp8Products.apply(x, weight, counts, "e4m3", True)


class _Fp8Products(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, x: Tensor, weight: Tensor, counts: list[int], keep: str, dispatched: bool
    ) -> Tensor:
        if keep not in KEPT_FORMATS:
            raise ValueError(f"format to keep is {keep!r}, expected one of {KEPT_FORMATS}")
        ctx.counts, ctx.dispatched, ctx.kernels = counts, dispatched, enabled(x)
        if ctx.kernels:
            from model.kernels import linear as kernels  # needs Triton

            y, kept = kernels.forward(x, weight, counts, keep)
            ctx.save_for_backward(*kept)
            return y
        x_q, x_scale = quantize_tiles(x, power_of_two=True)
        w_q, w_scale = quantize_blocks(weight)
        kept = (x_q, x_scale) if keep == "e4m3" else quantize_tiles_e5m6(x)
        # float8 tensors pass through autograd's saved variables like any other.
        ctx.save_for_backward(*kept, w_q, w_scale)
        x = dequantize(x_q, x_scale)
        y = x.new_empty(x.shape[0], weight.shape[1])
        for rows, out, q, scale in zip(x.split(counts), y.split(counts), w_q, w_scale, strict=True):
            if len(rows):
                torch.mm(rows, dequantize(q, scale).t(), out=out)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        counts = ctx.counts
        grad = grad.contiguous()
        if ctx.kernels:
            from model.kernels import linear as kernels

            kept, needs = ctx.saved_tensors, ctx.needs_input_grad[:2]
            return *kernels.backward(grad, kept, counts, ctx.dispatched, needs), None, None, None
        kept, kept_scale, w_q, w_scale = ctx.saved_tensors
        across = dequantize(*quantize_tiles(grad, power_of_two=ctx.dispatched))
        grad_x = grad_w = None
        if ctx.needs_input_grad[0]:
            grad_x = grad.new_empty(grad.shape[0], w_q.shape[2])
            pieces = zip(across.split(counts), grad_x.split(counts), w_q, w_scale, strict=True)
            for rows, out, q, scale in pieces:
                if len(rows):
                    torch.mm(rows, dequantize(q, scale), out=out)
        if ctx.needs_input_grad[1]:
            x = (dequantize if kept.dtype == w_q.dtype else dequantize_e5m6)(kept, kept_scale)
            x = round_columns(x, counts, power_of_two=True)
            grad = across if ctx.dispatched else grad
            grad = round_columns(grad, counts, power_of_two=ctx.dispatched)
            grad_w = grad.new_empty(w_q.shape)
            for rows, g, out in zip(x.split(counts), grad.split(counts), grad_w, strict=True):
                torch.mm(g.t(), rows, out=out)
        return grad_x, grad_w, None, None, None


def round_columns(x: Tensor, counts: list[int], *, power_of_two: bool) -> Tensor:
    """Round x: float32 [rows, k] in tiles of 128 x 1, beginning anew at every group of rows.

    Gives the rounded numbers in float32, not transposed: those that `quantize_tiles` makes of the
    transpose of each group.
    """
    sizes = [min(TILE, count - at) for count in counts for at in range(0, count, TILE)]
    result = torch.empty_like(x)
    # Some tiles at a time, so that what is written in between stays in the processor's cache.
    together = max(1, CACHED // (TILE * x.shape[1]))
    start = 0
    for at in range(0, len(sizes), together):
        lengths = sizes[at : at + together]
        stop = start + sum(lengths)
        part = x[start:stop]
        maxima = torch.stack([tile.abs().amax(0) for tile in part.split(lengths)])
        scale = tile_scale(maxima, power_of_two=power_of_two)
        scale = scale.repeat_interleave(torch.tensor(lengths), 0, output_size=stop - start)
        torch.mul(decode_e4m3((part / scale).to(E4M3)), scale, out=result[start:stop])
        start = stop
    return result
