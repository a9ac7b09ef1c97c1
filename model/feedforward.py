"""The SwiGLU feed-forward network: down(silu(gate x) * up x) (Shazeer 2020).

Dense layers and the shared experts are this; the routed experts use the same activation. Gate and
up are one product over their joined matrices: copying the weights costs far less than starting a
second product over every token, and the activation then reads one tensor and, backwards, writes
one.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.linear import Linear, linear


class FeedForward(nn.Module):
    """x: [..., d] to [..., d] through an inner width of `inner`."""

    def __init__(self, size: int, inner: int, precision: str) -> None:
        super().__init__()
        self.gate_proj = Linear(size, inner, precision)
        self.up_proj = Linear(size, inner, precision)
        self.down_proj = Linear(inner, size, precision)
        self.precision = precision

    def forward(self, x: Tensor) -> Tensor:
        gate_up = torch.cat([self.gate_proj.weight, self.up_proj.weight])
        return self.down_proj(swiglu(linear(x, gate_up, self.precision)))


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up, for gate and up side by side: [..., 2m] to [..., m]."""
    return _SwiGLU.apply(gate_up)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, -1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, -1)
        result = torch.empty_like(gate_up)
        grad_gate, grad_up = result.chunk(2, -1)
        torch.mul(grad, F.silu(gate), out=grad_up)
        torch.ops.aten.silu_backward(grad * up, gate, grad_input=grad_gate)
        return result
