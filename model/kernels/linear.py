"""The three FP8 products of a linear layer, or of one layer per expert, on the kernels.

`model/fp8_linear.py` has the autograd function and decides by `switch.enabled` who computes: this,
or the same in plain PyTorch. The numbers that are multiplied are the same to the byte; sums are in
another order, in float32.

What is kept for the backward pass: x in E4M3 with powers of two (or E5M6, for the linear after
attention), and the transposed weight in E4M3, made with the other orientation from one read of the
weight, because Hopper wants the dimension summed over to run fastest: dx = dy W sums over n. That
is 1 byte and 1/32 for each number of x, against 2 in bfloat16.

Experts: rows lie one expert after the other, as many as there are. For the weight's gradient, whose
tiles of 128 run along the rows, every expert's are moved apart to a multiple of 128 and filled up
with zeros, which change no maximum: FP8 bytes move, a fourth of float32.
"""

import torch
from torch import Tensor

from model.e5m6 import dequantize_e5m6, quantize_tiles_e5m6
from model.kernels.grouped import grouped_product, grouped_weight_gradient
from model.kernels.product import TILE, product
from model.kernels.quantize import (
    quantize_both,
    quantize_columns,
    quantize_tiles,
    requantize_columns,
)
from model.kernels.quantize_weights import quantize_blocks

Quantized = tuple[Tensor, Tensor]


def forward(
    x: Tensor, weight: Tensor, counts: list[int], keep: str
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """x W^T, and what the backward pass needs. x: [rows, k], weight: [E, n, k].

    `counts` [E] says how many rows each expert has. `keep` is the format x is kept in, e4m3 or
    e5m6. Gives y [rows, n] in x's dtype, then x as kept and its scales, W^T in E4M3 [E, k, n] and
    its scales [E, k/128, n/128].
    """
    rows = quantize_tiles(x, power_of_two=True)
    w_q, w_scale, wt_q, wt_scale = quantize_blocks(weight, transpose=True)
    kept = rows if keep == "e4m3" else quantize_tiles_e5m6(x.float())
    return _times(rows, (w_q, w_scale), counts, x.dtype), (*kept, wt_q, wt_scale)


def backward(
    grad: Tensor,
    kept: tuple[Tensor, Tensor, Tensor, Tensor],
    counts: list[int],
    dispatched: bool,
    needs: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:
    """dx [rows, k] in grad's dtype and dW [E, n, k] in float32; None where `needs` says no.

    grad: [rows, n]. `dispatched` gradients have powers of two, and are turned from their FP8 form;
    others are rounded in both directions from what they are, in one read.
    """
    x_q, x_scale, wt_q, wt_scale = kept
    grad_x = grad_w = columns = None
    if dispatched or not needs[1]:
        rows = quantize_tiles(grad, power_of_two=dispatched)
    else:
        *rows, g_q, g_scale = quantize_both(grad)
        columns = g_q, g_scale
    if needs[0]:
        grad_x = _times(rows, (wt_q, wt_scale), counts, grad.dtype)
    if needs[1]:
        x = _columns((x_q, x_scale), counts)
        columns = columns or _columns(rows, counts)
        if len(counts) == 1:
            grad_w = product(*columns, *x)[None]
        else:
            steps = [0, *(-(-count // TILE) for count in counts)]
            steps = _on(grad, steps).cumsum(0, dtype=torch.int32)
            grad_w = grouped_weight_gradient(*columns, *x, steps)
    return grad_x, grad_w


def _times(rows: Quantized, weight: Quantized, counts: list[int], dtype: torch.dtype) -> Tensor:
    """Rows times the transpose of their expert's matrix [E, n, k]."""
    if len(counts) == 1:
        return product(*rows, weight[0][0], weight[1][0], dtype)
    size = _on(rows[0], counts)
    starts = size.cumsum(0, dtype=torch.int32) - size
    return grouped_product(*rows, *weight, starts, size, dtype)


def _columns(kept: Quantized, counts: list[int]) -> Quantized:
    """Turn kept rows [rows, k] to E4M3 [k, p] in tiles along them, every expert from a new tile."""
    q, scale = kept
    if len(counts) > 1:
        q, scale = _apart(q, counts), _apart(scale, counts)
    if q.dtype == torch.float8_e4m3fn:
        return requantize_columns(q, scale)
    return quantize_columns(dequantize_e5m6(q, scale), power_of_two=True)


def _apart(x: Tensor, counts: list[int]) -> Tensor:
    """Move the rows of every expert to a multiple of 128, with zeros between."""
    padded = [-(-count // TILE) * TILE for count in counts]
    size, room = _on(x, counts), _on(x, padded)
    shift = (room - size).cumsum(0) - (room - size)
    position = torch.arange(len(x), device=x.device) + shift.repeat_interleave(size.long())
    result = torch.zeros(sum(padded), x.shape[1], dtype=x.dtype, device=x.device)
    if x.dtype.itemsize == 1:  # E4M3 numbers can't be moved by index, bytes can
        result.view(torch.uint8).index_copy_(0, position, x.view(torch.uint8))
        return result
    return result.index_copy_(0, position, x)


def _on(like: Tensor, numbers: list[int]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int32, device=like.device)
