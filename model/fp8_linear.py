"""A linear layer whose three products are all rounded to FP8 (Figure 6 of the report)."""

import torch
from torch import Tensor

from model.fp8 import (
    dequantize,
    quantize_blocks,
    quantize_tiles,
    requantize_columns,
    scaled_product,
)


class Fp8Linear(torch.autograd.Function):
    """x W^T with every product rounded to FP8: x [tokens, k], W [n, k], float32."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        x_q, x_scale = quantize_tiles(x, power_of_two=True)
        w_q, w_scale = quantize_blocks(weight)
        # float8 tensors pass through autograd's saved variables like any other.
        ctx.save_for_backward(x_q, x_scale, w_q, w_scale)
        return scaled_product(x_q, x_scale, w_q, w_scale)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x_q, x_scale, w_q, w_scale = ctx.saved_tensors
        grad_x = grad_w = None
        if ctx.needs_input_grad[0]:
            transposed = w_q.view(torch.uint8).t().contiguous().view(torch.float8_e4m3fn)
            grad_x = scaled_product(*quantize_tiles(grad), transposed, w_scale.t())
        if ctx.needs_input_grad[1]:
            columns = requantize_columns(x_q, x_scale)
            grad_w = scaled_product(*quantize_tiles(grad.t().contiguous()), *columns)
        return grad_x, grad_w
