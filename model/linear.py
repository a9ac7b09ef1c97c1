"""The products: one matrix, or one matrix per expert, in the precision of the run.

A layer holds a `Linear`, experts in FP8 call `grouped_linear`, which multiplies each expert's rows,
lying together, with that expert's matrix. In float32 the networks that end in an activation take a
way of their own (`model/feedforward.py`), whose plain twin is made of these.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from model import _native
from model.fp8_linear import fp8_grouped_linear, fp8_linear
from model.passes import call, native

PRECISIONS = ("fp32", "fp8")


class Linear(nn.Module):
    """y = x W^T, without bias. x: [..., inputs] to y: [..., outputs]."""

    def __init__(self, inputs: int, outputs: int, precision: str, keep: str = "e4m3") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.precision = precision
        self.keep = keep  # the format in which x waits for the backward pass in FP8

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.precision, self.keep)


def linear(x: Tensor, weight: Tensor, precision: str, keep: str = "e4m3") -> Tensor:
    """x W^T in the given precision. x: [..., k], weight: [n, k], result [..., n]."""
    if precision == "fp8":
        return fp8_linear(x, weight, keep)
    if native(x.shape[:-1].numel(), x, weight):
        return _Linear.apply(x, weight)
    return F.linear(x, weight)


class _Linear(torch.autograd.Function):
    """`F.linear` by the native core."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        rows, weight = x.flatten(0, -2).contiguous(), weight.contiguous()
        out = x.new_empty(*x.shape[:-1], weight.shape[0])
        call(_native.linear, rows, weight, out.view(-1, weight.shape[0]))
        ctx.save_for_backward(x, weight)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        grad = grad.reshape(-1, weight.shape[0]).contiguous()
        rows = x.flatten(0, -2).contiguous()
        grad_x = torch.empty_like(rows) if ctx.needs_input_grad[0] else None
        grad_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        call(_native.linear_backward, grad, rows, weight, grad_x, grad_weight)
        return None if grad_x is None else grad_x.view_as(x), grad_weight


def grouped_linear(x: Tensor, weight: Tensor, counts: list[int], precision: str) -> Tensor:
    """Rows times their expert's matrix. x: [rows, k] sorted by expert, weight: [experts, n, k].

    `counts` [experts] says how many rows each expert has; they sum to `rows`. Gives [rows, n].
    """
    if precision == "fp8":
        return fp8_grouped_linear(x, weight, counts)
    pieces = zip(x.split(counts), weight, strict=True)
    return torch.cat([linear(rows, matrix, precision) for rows, matrix in pieces])
