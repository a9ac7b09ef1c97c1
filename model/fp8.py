"""FP8 training as section 3.3 of the DeepSeek-V3 report does it, with the rounding made visible.

A number in E4M3 has four significant bits and reaches from 2^-9 to 448, far too little for a whole
matrix. So every tile of 128 numbers in an activation (1 x 128, along the dimension summed over) and
every 128 x 128 block of a weight gets its own scale, found from its largest magnitude as it is
rounded (section 3.3.2). A product then runs over the inner dimension in steps of 128: within a step
the scales are constants and come out of the sum, and each step's result is multiplied by them and
added in float32 (the promotion of Figure 7b).

All three products of a linear layer are rounded this way (Figure 6):

    y  = x W^T     x in 1 x 128 tiles along the inputs,  W in 128 x 128 blocks
    dx = dy W      dy in 1 x 128 tiles along the outputs, the same blocks of W
    dW = dy^T x    both in tiles along the tokens

As in the report, x is kept for the backward pass in FP8, and its tiles are turned from 1 x 128 to
128 x 1 by rounding what was kept a second time. Embedding, head, gating, norms and the attention
core never pass through here; neither do the master weights, which stay float32.

On a CPU the casts are exact but no fast 8-bit product exists, so this computes the same rounded
numbers in float32: it shows what FP8 does to a loss curve, it does not save time. It also does not
show the 14-bit accumulation of Hopper's tensor cores, nor the E5M6 format of the linear after
attention. Dimensions that are not multiples of 128 are padded with zeros, which change no maximum;
a matrix made of two joined ones (gate and up) shares blocks at the seam when it falls inside one.
"""

import torch
from torch import Tensor

TILE = 128
E4M3_MAX = 448.0
# A tile of zeros must not divide by zero; the report's kernels use the same floor.
SMALLEST_MAXIMUM = 1e-4


def _padded(x: Tensor) -> Tensor:
    """Pad both dimensions of a matrix with zeros to multiples of 128."""
    rows, columns = -x.shape[0] % TILE, -x.shape[1] % TILE
    return torch.nn.functional.pad(x, (0, columns, 0, rows)) if rows or columns else x


def _round(tiles: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    scale = tiles.abs().amax(dims, keepdim=True).clamp_min(SMALLEST_MAXIMUM) / E4M3_MAX
    return (tiles / scale).clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn), scale


def quantize_tiles(x: Tensor) -> tuple[Tensor, Tensor]:
    """Round x: float32 [m, k], m and k multiples of 128, in tiles of 1 x 128.

    Gives E4M3 [m, k] and float32 scales [m, k / 128], with x ~ q * scale.
    """
    q, scale = _round(x.unflatten(1, (-1, TILE)), (2,))
    return q.flatten(1), scale.squeeze(2)


def quantize_blocks(w: Tensor) -> tuple[Tensor, Tensor]:
    """Round w: float32 [n, k], n and k multiples of 128, in blocks of 128 x 128.

    Gives E4M3 [n, k] and float32 scales [n / 128, k / 128], with w ~ q * scale.
    """
    q, scale = _round(w.unflatten(0, (-1, TILE)).unflatten(2, (-1, TILE)), (1, 3))
    return q.flatten(2).flatten(0, 1), scale.squeeze(3).squeeze(1)


def _by_row(scale: Tensor, q: Tensor) -> Tensor:
    """Give every row its scales, [rows, k / 128], whether they came by tile or by block."""
    return scale if scale.shape[0] == q.shape[0] else scale.repeat_interleave(TILE, 0)


def dequantize(q: Tensor, scale: Tensor) -> Tensor:
    """Give float32 [m, k] from E4M3 [m, k] and its scales, by row tile or by block."""
    scale = _by_row(scale, q)
    return (q.float().unflatten(1, (-1, TILE)) * scale[:, :, None]).flatten(1)


def scaled_product(a: Tensor, a_scale: Tensor, b: Tensor, b_scale: Tensor) -> Tensor:
    """a b^T: E4M3 [m, k] and [n, k] to float32 [m, n], promoted after every 128 of k.

    Scales are by tile [rows, k / 128] or by block [rows / 128, k / 128].
    """
    a_scale, b_scale = _by_row(a_scale, a), _by_row(b_scale, b)
    a, b = a.float(), b.float()
    total = torch.zeros(a.shape[0], b.shape[0])
    for step in range(a.shape[1] // TILE):
        inner = slice(step * TILE, (step + 1) * TILE)
        part = a[:, inner] @ b[:, inner].t()
        total += part.mul_(a_scale[:, step, None]).mul_(b_scale[None, :, step])
    return total


class Fp8Linear(torch.autograd.Function):
    """x W^T with every product rounded to FP8: x [tokens, k], W [n, k], float32."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        x_q, x_scale = quantize_tiles(_padded(x))
        w_q, w_scale = quantize_blocks(_padded(weight))
        # float8 tensors pass through autograd's saved variables like any other.
        ctx.save_for_backward(x_q, x_scale, w_q, w_scale)
        ctx.shapes = x.shape, weight.shape
        return scaled_product(x_q, x_scale, w_q, w_scale)[: x.shape[0], : weight.shape[0]]

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x_q, x_scale, w_q, w_scale = ctx.saved_tensors
        (tokens, k), (n, _) = ctx.shapes
        grad = _padded(grad)
        grad_x = grad_w = None
        if ctx.needs_input_grad[0]:
            transposed = w_q.view(torch.uint8).t().contiguous().view(torch.float8_e4m3fn)
            product = scaled_product(*quantize_tiles(grad), transposed, w_scale.t())
            grad_x = product[:tokens, :k]
        if ctx.needs_input_grad[1]:
            g_q, g_scale = quantize_tiles(grad.t().contiguous())
            xt_q, xt_scale = quantize_tiles(dequantize(x_q, x_scale).t().contiguous())
            grad_w = scaled_product(g_q, g_scale, xt_q, xt_scale)[:n, :k]
        return grad_x, grad_w
