"""The products: one matrix, or one matrix per expert, in the precision of the run.

A layer holds a `Linear`, experts in FP8 call `grouped_linear`, which multiplies each expert's rows,
lying together, with that expert's matrix. In float32 the networks that end in an activation take a
way of their own (`model/feedforward.py`), whose plain twin is made of these.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.fp8_linear import fp8_grouped_linear, fp8_linear

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
    return F.linear(x, weight)


def grouped_linear(x: Tensor, weight: Tensor, counts: list[int], precision: str) -> Tensor:
    """Rows times their expert's matrix. x: [rows, k] sorted by expert, weight: [experts, n, k].

    `counts` [experts] says how many rows each expert has; they sum to `rows`. Gives [rows, n].
    """
    if precision == "fp8":
        return fp8_grouped_linear(x, weight, counts)
    pieces = zip(x.split(counts), weight, strict=True)
    return torch.cat([linear(rows, matrix, precision) for rows, matrix in pieces])
