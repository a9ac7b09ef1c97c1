"""The SwiGLU feed-forward network: down(silu(gate x) * up x) (Shazeer 2020), one or many at once.

A dense layer and the shared experts are one such network for all tokens; the routed experts are
many, each for its own tokens. Gate and up are one product over their joined matrices.

On a CPU the products run near the machine's peak and the passes between them do not: written over
whole tensors they wait for memory. So `gated_networks` takes a piece of the rows at a time, small
enough for the cache, from its gathering to the second product, and the backward pass likewise. It
keeps only the first product's result: the rows are gathered again and the activation is computed
again, as section 3.2.3 of the DeepSeek-V3 report recomputes SwiGLU. The native core does it so, and
its twin in torch, where the native core is not for the machine or the precision.

Legend: T tokens, d hidden size, E networks, m inner size, R rows (a token for a network).
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from model import _native
from model.linear import Linear, linear
from model.passes import call, native, once

# Rows of a piece: at d 512 and m 192 a piece and what is made of it are about 8 MB.
PIECE = 1024


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
        if self.precision != "fp32":
            return self.down_proj(swiglu(linear(x, gate_up, self.precision)))
        rows = x.flatten(0, -2)
        down = self.down_proj.weight
        return gated_networks(rows, gate_up[None], down[None], [len(rows)]).view_as(x)


def activate(gate_up: Tensor, gain: Tensor | None = None) -> Tensor:
    """silu(gate) * up for gate and up side by side, [n, 2m] to [n, m]; times a gain [n, 1]."""
    gate, up = gate_up.chunk(2, -1)
    inner = F.silu(gate).mul_(up)
    return inner if gain is None else inner.mul_(gain)


def activate_backward(
    gate_up: Tensor, grad: Tensor, gain: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The gradient [n, 2m] of `activate`, its result [n, m] once more, and the gain's gradient [n].

    With s the sigmoid of the gate, silu = gate s has the derivative s + silu (1 - s). `grad` [n, m]
    is overwritten.
    """
    gate, up = gate_up.chunk(2, -1)
    sigmoid = gate.sigmoid()
    silu = gate * sigmoid
    inner = silu * up
    grad_gain = None
    if gain is not None:
        grad_gain = torch.linalg.vecdot(grad, inner)
        inner.mul_(gain)
        grad.mul_(gain)
    result = torch.empty_like(gate_up)
    grad_gate, grad_up = result.chunk(2, -1)
    torch.mul(grad, silu, out=grad_up)
    slope = silu.addcmul_(silu, sigmoid, value=-1).add_(sigmoid)
    torch.mul(grad, up, out=grad_gate).mul_(slope)
    return result, inner, grad_gain


def swiglu(gate_up: Tensor, gain: Tensor | None = None) -> Tensor:
    """`activate` for autograd: [..., 2m] to [..., m], times a gain [..., 1] if given."""
    return _SwiGLU.apply(gate_up, gain)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gate_up: Tensor, gain: Tensor | None) -> Tensor:
        ctx.save_for_backward(gate_up, gain)
        return activate(gate_up, gain)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        gate_up, gain = ctx.saved_tensors
        result, _, grad_gain = activate_backward(gate_up, grad.clone(), gain)
        return result, None if grad_gain is None else grad_gain[..., None]


def gated_networks(
    x: Tensor,
    gate_up: Tensor,
    down: Tensor,
    counts: list[int],
    gain: Tensor | None = None,
    token: Tensor | None = None,
    position: Tensor | None = None,
) -> Tensor:
    """Rows of x [T, d] through their networks, gate_up [E, 2m, d] and down [E, d, m], in float32.

    Row i is the token `token[i]` (int64 [R], sorted by network; `counts` [E] says how many rows
    each has), and its result counts `gain[i]` [R, 1] times. `position` (int64 [T, K]) says where
    the K rows of a token are; their results are added up to [T, d]. Without `token` and `position`
    the rows are the tokens themselves.
    """
    way = _NativeNetworks if native(sum(counts), x, gate_up, down, gain) else _GatedNetworks
    return way.apply(x, gate_up, down, gain, counts, token, position)


def _pieces(counts: list[int]) -> list[tuple[int, slice, bool]]:
    """The network, the rows, and whether they are its first, of every piece."""
    result, start = [], 0
    for network, count in enumerate(counts):
        height = -(-count // max(-(-count // PIECE), 1))  # pieces of one network are even
        for first in range(0, count, max(height, 1)):
            rows = slice(start + first, start + min(first + height, count))
            result.append((network, rows, first == 0))
        start += count
    return result


class _GatedNetworks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gate_up, down, gain, counts, token, position) -> Tensor:
        rows = len(x) if token is None else len(token)
        h, y = x.new_empty(rows, gate_up.shape[1]), x.new_empty(rows, x.shape[1])
        for network, part, _ in _pieces(counts):
            own = x[part] if token is None else x.index_select(0, token[part])
            mine = h[part]
            torch.mm(own, gate_up[network].t(), out=mine)
            inner = activate(mine, None if gain is None else gain[part])
            torch.mm(inner, down[network].t(), out=y[part])
        ctx.save_for_backward(x, gate_up, down, gain, token, position, h)
        ctx.counts = counts
        return _added(y, position)

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, gate_up, down, gain, token, position, h = ctx.saved_tensors
        grad = grad.contiguous()
        grad_x = x.new_empty(h.shape[0], x.shape[1])
        grad_gate_up, grad_down = torch.empty_like(gate_up), torch.empty_like(down)
        grad_gain = None if gain is None else torch.empty_like(gain)
        for network, part, first in _pieces(ctx.counts):
            if token is None:
                own, g = x[part], grad[part]
            else:
                own, g = (t.index_select(0, token[part]) for t in (x, grad))
            own_gain = None if gain is None else gain[part]
            grad_h, inner, more = activate_backward(h[part], g @ down[network], own_gain)
            if more is not None:
                grad_gain[part, 0] = more
            beta = 0 if first else 1
            grad_down[network].addmm_(g.t(), inner, beta=beta)
            grad_gate_up[network].addmm_(grad_h.t(), own, beta=beta)
            torch.mm(grad_h, gate_up[network], out=grad_x[part])
        for network, count in enumerate(ctx.counts):
            if count == 0:
                grad_gate_up[network].zero_()
                grad_down[network].zero_()
        return _added(grad_x, position), grad_gate_up, grad_down, grad_gain, None, None, None


class _NativeNetworks(torch.autograd.Function):
    """The same by the native core."""

    @staticmethod
    def forward(ctx, x, gate_up, down, gain, counts, token, position) -> Tensor:
        rows = len(x) if token is None else len(token)
        x, gate_up, down = x.contiguous(), gate_up.contiguous(), down.contiguous()
        gain = None if gain is None else gain.flatten()
        h, y = x.new_empty(rows, gate_up.shape[1]), x.new_empty(rows, x.shape[1])
        call(_native.networks, x, gate_up, down, counts, gain, token, h, y)
        ctx.save_for_backward(x, gate_up, down, gain, token, position, h)
        ctx.counts = counts
        return _added(y, position)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        once(ctx)
        x, gate_up, down, gain, token, position, h = ctx.saved_tensors
        grad_x, inner = x.new_empty(h.shape[0], x.shape[1]), h.new_empty(h.shape[0], down.shape[2])
        grads = [None if t is None else torch.empty_like(t) for t in (gate_up, down, gain)]
        call(
            _native.networks_backward, x, gate_up, down, ctx.counts, gain, token,
            grad.contiguous(), h, inner, grad_x, *grads,
        )  # fmt: skip
        grad_gain = None if gain is None else grads[2][:, None]
        return _added(grad_x, position), *grads[:2], grad_gain, None, None, None


def _added(rows: Tensor, position: Tensor | None) -> Tensor:
    """The K rows of each token added up, if there are several: [R, d] to [T, d]."""
    return rows if position is None else F.embedding_bag(position, rows, mode="sum")
