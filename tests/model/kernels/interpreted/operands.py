"""FP8 operands for tests, rounded in float64 without any code of `model`, and fresh every time."""

import torch
from torch import Tensor

TILE = 128
KINDS = ("normal", "outliers", "zeros", "subnormal", "one sign")


def numbers(kind: str, *shape: int) -> Tensor:
    """float32 numbers of a kind that has broken somebody's kernel."""
    x = torch.randn(*shape)
    if kind == "outliers":
        x[torch.rand(shape) < 0.01] *= 1e4
    elif kind == "zeros":
        x[torch.rand(shape[0]) < 0.5] = 0.0
        x[:, : shape[1] // 2] = 0.0
    elif kind == "subnormal":
        # One large number a row leaves the others in the lowest binades of E4M3.
        x *= 1e-5
        x[:, 0] = 1.0
    elif kind == "one sign":
        x = x.abs() * torch.sign(torch.randn(shape[0], 1))
    return x


def rounded(x: Tensor, by: str) -> tuple[Tensor, Tensor, Tensor]:
    """x: [rows, k] in E4M3, its scales by "tile" or "block", and the numbers they mean in float64.

    Scales aren't powers of two, and every fourth one is larger than it must be.
    """
    rows, k = x.shape
    height = TILE if by == "block" else 1
    scale = torch.empty(-(-rows // height), -(-k // TILE))
    spread = torch.empty(rows, k)
    for i in range(scale.shape[0]):
        for j in range(scale.shape[1]):
            part = (slice(i * height, (i + 1) * height), slice(j * TILE, (j + 1) * TILE))
            scale[i, j] = (
                max(float(x[part].abs().max()), 1e-4) / 448 * (3.0 if (i + j) % 4 == 3 else 1)
            )
            spread[part] = scale[i, j]
    q = (x.double() / spread.double()).clamp(-448, 448).to(torch.float8_e4m3fn)
    return q, scale, q.double() * spread.double()


def distance(found: Tensor, expected: Tensor) -> float:
    """‖found - expected‖ / ‖expected‖, infinite for NaN; the divisor is at least 1e-30."""
    error = (found.double() - expected.double()).norm() / max(
        float(expected.double().norm()), 1e-30
    )
    return float("inf") if error.isnan() else float(error)
