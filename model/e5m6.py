"""E5M6, the twelve-bit format for the input of the linear layer after attention (section 3.2.3).

One sign, five bits of exponent, six of fraction: seven significant bits from 2^-14 to 65,024 and
steps of 2^-20 below. It is kept instead of E4M3 where the number is needed again in the backward
pass of attention itself, which is sensitive to it; as with E4M3, every 1 x 128 tile has a scale,
here always a power of two, so that turning the tiles to 128 x 1 rounds once only.

No library has the format, but it is float16 with a shorter fraction, so its numbers are stored as
float16 (two bytes where twelve bits would do). The rounding from float32 is one exact step: going
through float16 would round twice. The report gives neither the largest number nor the scale; here
the highest exponent is reserved as in IEEE formats and a tile's maximum is brought just below it.
"""

import torch
from torch import Tensor

from model.fp8 import (
    SMALLEST_MAXIMUM,
    divide_tiles,
    multiply_tiles,
    power_of_two_above,
    tile_maximum,
)

E5M6_MAX = 65024.0  # (2 - 2^-6) * 2^15
SMALLEST_NORMAL = 2.0**-14
# Adding and subtracting it in float32 rounds to multiples of 2^-20, ties to even.
TO_STEPS = 1.5 * 2.0**3


def round_e5m6(x: Tensor) -> Tensor:
    """float32 to the nearest E5M6 number, ties to even, saturating; given as float16.

    Seventeen of float32's 23 bits of fraction go: adding half of the last that stays, less one if
    it is even, carries exactly when the number is to be rounded up.
    """
    x = x.clamp(-E5M6_MAX, E5M6_MAX)
    bits = x.view(torch.int32)
    odd = (bits >> 17).bitwise_and_(1)
    normal = odd.add_(0xFFFF).add_(bits).bitwise_and_(~0x1FFFF).view(torch.float32)
    return torch.where(x.abs() < SMALLEST_NORMAL, (x + TO_STEPS) - TO_STEPS, normal).half()


def quantize_tiles_e5m6(x: Tensor) -> tuple[Tensor, Tensor]:
    """Round x: float32 [..., k] in tiles of 1 x 128 along the last dimension.

    Gives float16 [..., k] that are E5M6 numbers, and scales [..., k/128], powers of two in float32.
    """
    scale = power_of_two_above(tile_maximum(x).clamp_min(SMALLEST_MAXIMUM) / E5M6_MAX)
    return round_e5m6(divide_tiles(x, scale)), scale


def dequantize_e5m6(q: Tensor, scale: Tensor) -> Tensor:
    """float32 [..., k] from float16 [..., k] and the scales of its tiles [..., k/128], exactly."""
    return multiply_tiles(q.float(), scale)
