"""The native passes of training: which tensors they are for, and how they are called.

On a CPU with AVX-512 the products of float32 training, and what lies between them, are the native
core's (`model/native/train.hpp`): about a sixth faster than the library's that torch calls, and
nothing waits for memory between two of them. For anything else (other precisions, other machines,
a GPU) the same is written in torch beside each call, and the tests compare the two.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from model import _native  # behind torch, whose threads it uses

AVAILABLE: bool = _native.TRAINS
# Rows from which on it is worth while to rearrange a matrix, as the native products do.
LEAST = 32


def native(rows: int, *tensors: Tensor | None) -> bool:
    """Whether a native pass is for so many rows of these tensors."""
    return (
        AVAILABLE
        and rows >= LEAST
        and not torch.is_autocast_enabled("cpu")
        and all(t is None or _is_plain(t) for t in tensors)
    )


def _is_plain(t: Tensor) -> bool:
    """Float32 in this machine's memory. (Tensors of other types may have no numbers at all.)"""
    return (
        type(t) in (Tensor, nn.Parameter)
        and t.dtype == torch.float32
        and t.device.type == "cpu"
        and t.numel() > 0
    )


def call(function: Callable[..., None], *arguments: object) -> None:
    """Call a native pass, which writes into some of the arguments. Tensors must be contiguous."""
    _native.set_threads(torch.get_num_threads())
    function(*(a.detach() if isinstance(a, Tensor) else a for a in arguments))


def once(ctx: torch.autograd.function.FunctionCtx) -> None:
    """Say that a backward pass overwrites what the forward pass kept; raises the second time."""
    if getattr(ctx, "used", False):
        raise RuntimeError("this pass can be differentiated once: what it kept is overwritten")
    ctx.used = True
