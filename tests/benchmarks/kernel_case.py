"""What the kernels' benchmark runs: a case for each kernel, listed by the modules of `CASES`.

A case makes inputs of a shape on a device, runs the kernel, its reference and its peers on them,
and says how many bytes and operations that takes at least.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

# Modules of this folder with a list CASES.
MODULES = ("kernel_cases_casts", "kernel_cases_products", "kernel_cases_ends")
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """`inputs(shape, device)` gives what `run`, `reference` and each of `peers` are called with.

    `run` and `reference` give tuples of tensors, alike in shape and type. `shapes` are measured;
    `small` is checked in the interpreter. `moved` bytes and `operations` are functions of a shape.
    FP8 results may differ from the reference's in a share `tolerance` of their bytes, others by
    `tolerance` in norm; with `partial`, what the reference leaves NaN is nobody's. `rate` is the
    chip's that `operations` are held against. Peers do the same work otherwise, are only timed, and
    may raise where torch or the chip can't.
    """

    name: str
    shapes: list[Shape]
    small: Shape
    inputs: Callable[[Shape, str], tuple]
    run: Callable[..., tuple]
    reference: Callable[..., tuple]
    moved: Callable[[Shape], float]
    operations: Callable[[Shape], float] = lambda shape: 0.0
    peers: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    tolerance: float = 0.0
    rate: str = "fp8"
    partial: bool = False


def all_cases() -> list[Case]:
    """The cases of every module; names are unique."""
    return [case for name in MODULES for case in importlib.import_module(name).CASES]


def differences(found: tuple, expected: tuple, partial: bool = False) -> list[float]:
    """For each pair of results the share of bytes that differ (FP8) or the relative error.

    `partial` passes over what is NaN in `expected`.
    """
    made = []
    for a, b in zip(found, expected, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            raise ValueError(f"{a.dtype} {list(a.shape)} against {b.dtype} {list(b.shape)}")
        if a.dtype == torch.float8_e4m3fn:
            differ = (a.view(torch.uint8) != b.view(torch.uint8)).float().mean()
            made.append(float(differ))
        else:
            known = ~b.isnan() if partial else ...
            a, b = a[known].double(), b[known].double()
            made.append(float((a - b).norm() / b.norm().clamp_min(1e-30)))
    return made
