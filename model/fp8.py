"""FP8 numbers with fine-grained scales, as section 3.3.2 of the DeepSeek-V3 report rounds them.

A number in E4M3 has four significant bits and reaches from 2^-9 to 448, far too little for a whole
matrix. So every tile of 128 numbers in an activation (1 x 128, along the dimension summed over) and
every 128 x 128 block of a weight gets its own scale, found from its largest magnitude as it is
rounded. A product then runs over the inner dimension in steps of 128: within a step the scales are
constants and come out of the sum, and each step's result is multiplied by them and added in float32
(the promotion of Figure 7b).

These functions are the definition: plain, on any device, in float32. The Triton kernels are tested
against them to the byte, and `model/fp8_linear.py` trains with them. With m the larger of a tile's
greatest magnitude and 1e-4,

    scale = m / 448          or that rounded up to a power of two
    q     = E4M3(x / scale)  to nearest, ties to even, magnitudes above 448 to 448

in IEEE float32 division. A power of two costs up to one of the 18 binades below the tile's largest
number and nothing of the precision above; it makes a second rounding with other such scales exact
wherever the result does not fall below 2^-6 of its scale. The report has it where activations are
rounded twice: kept in 1 x 128 and turned to 128 x 1 for the weight's gradient, or sent to experts.

Dimensions that are not multiples of 128 end in a narrower tile; an infinite or undefined number
makes its whole tile undefined, so that a loss shows it.

Legend: m rows (tokens), k inner dimension, n outputs, ceil(k / 128) written k/128.
"""

import math

import torch
from torch import Tensor

E4M3 = torch.float8_e4m3fn
TILE = 128
E4M3_MAX = 448.0
# A tile of zeros must not divide by zero; the report's kernels use the same floor.
SMALLEST_MAXIMUM = 1e-4


def power_of_two_above(x: Tensor) -> Tensor:
    """The smallest power of two that is not below x: float32, normal and positive.

    Adding all ones below the exponent carries into it unless the fraction is zero. What is not
    finite stays as it is.
    """
    bits = x.contiguous().view(torch.int32)
    return ((bits + 0x7FFFFF) & 0x7F800000).view(torch.float32).where(x.isfinite(), x)


def tile_scale(maximum: Tensor, *, power_of_two: bool = False) -> Tensor:
    """The scale of tiles whose greatest magnitudes are `maximum` (float32, any shape)."""
    scale = maximum.clamp_min(SMALLEST_MAXIMUM) / E4M3_MAX
    return power_of_two_above(scale) if power_of_two else scale


def round_e4m3(x: Tensor) -> Tensor:
    """float32 to E4M3, to nearest with ties to even, saturating at 448."""
    return x.clamp(-E4M3_MAX, E4M3_MAX).to(E4M3)


def decode_e4m3(q: Tensor) -> Tensor:
    """E4M3 to float32, exactly `q.float()`, in a tenth of its time on a CPU.

    Sign and the seven bits below it, moved to their places in a float16, are the number times
    2^-8, since the two formats' exponents differ by 8 (subnormal numbers included). The shift
    leaves a second copy of the sign at bit 14, which is cleared.
    """
    bits = q.view(torch.int8).to(torch.int16).bitwise_left_shift_(7).bitwise_and_(~0x4000)
    x = bits.view(torch.float16).float().mul_(256.0)
    # All ones stand for no number, and would read as 480; looking for the largest is cheap.
    if x.numel() and bits.bitwise_and_(0x3F80).amax() == 0x3F80:
        x.masked_fill_(bits == 0x3F80, math.nan)
    return x


def quantize_tiles(x: Tensor, *, power_of_two: bool = False) -> tuple[Tensor, Tensor]:
    """Round x: float32 [..., k] in tiles of 1 x 128 along the last dimension.

    Gives E4M3 [..., k] and float32 scales [..., k/128], with x ~ q * scale.
    """
    scale = tile_scale(tile_maximum(x), power_of_two=power_of_two)
    # A quotient exceeds 448 by its own rounding at most, so nothing is left to saturate.
    return divide_tiles(x, scale).to(E4M3), scale


def quantize_blocks(w: Tensor, *, power_of_two: bool = False) -> tuple[Tensor, Tensor]:
    """Round w: float32 [..., n, k] in blocks of 128 x 128.

    Gives E4M3 [..., n, k] and float32 scales [..., n/128, k/128], with w ~ q * scale.
    """
    maxima = [rows.amax(-2) for rows in tile_maximum(w).split(TILE, -2)]
    scale = tile_scale(torch.stack(maxima, -2), power_of_two=power_of_two)
    return divide_tiles(w, by_row(scale, w.shape[-2])).to(E4M3), scale


def dequantize(q: Tensor, scale: Tensor) -> Tensor:
    """float32 [..., m, k] from E4M3 [..., m, k] and its scales, by row tile or by block."""
    return multiply_tiles(decode_e4m3(q), by_row(scale, q.shape[-2]))


def by_row(scale: Tensor, rows: int) -> Tensor:
    """Give every row its scales [..., rows, k/128], whether they came by tile or by block."""
    return scale if scale.shape[-2] == rows else scale.repeat_interleave(TILE, -2)[..., :rows, :]


def tile_maximum(x: Tensor) -> Tensor:
    """The greatest magnitude [..., k/128] of each 1 x 128 tile of x [..., k].

    From the largest and the smallest number, since writing all magnitudes out costs more.
    """
    maximum = x.new_empty(*x.shape[:-1], -(-x.shape[-1] // TILE))
    for numbers, out in _tiles(x, maximum):
        torch.maximum(numbers.amax(-1, True), numbers.amin(-1, True).neg_(), out=out)
    return maximum


def divide_tiles(x: Tensor, scale: Tensor) -> Tensor:
    """x [..., k] with every 1 x 128 tile divided by its scale [..., k/128]."""
    quotient = torch.empty_like(x)
    for (numbers, divisor), (out, _) in zip(_tiles(x, scale), _tiles(quotient, scale), strict=True):
        torch.div(numbers, divisor, out=out)
    return quotient


def multiply_tiles(x: Tensor, scale: Tensor) -> Tensor:
    """Multiply every 1 x 128 tile of x [..., k] by its scale [..., k/128], in place; give x."""
    for numbers, factor in _tiles(x, scale):
        numbers.mul_(factor)
    return x


def _tiles(x: Tensor, scale: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Views of the whole tiles of x [..., k] and of the narrower last one, each with its scales.

    Padding to whole tiles would copy everything; fresh memory is what costs most on a CPU.
    """
    whole = x.shape[-1] // TILE
    pieces = []
    if whole:
        numbers = x[..., : whole * TILE].unflatten(-1, (whole, TILE))
        pieces.append((numbers, scale[..., :whole, None]))
    if x.shape[-1] % TILE:
        pieces.append((x[..., whole * TILE :], scale[..., whole:]))
    return pieces


def requantize_columns(
    q: Tensor, scale: Tensor, power_of_two: bool = True
) -> tuple[Tensor, Tensor]:
    """Turn what was kept in tiles of 1 x 128 to tiles of 128 x 1, for the weight's gradient.

    From E4M3 [m, k] with scales [m, k/128] straight to the transpose, E4M3 [k, m] with scales
    [k, m/128]: number (j, i) is number (i, j) rounded a second time, in the tile of 128 rows that
    row i is in. The same as `quantize_tiles(dequantize(q, scale).t())`; with powers of two before
    and after, the second rounding is exact but for numbers that become subnormal.
    """
    return quantize_tiles(dequantize(q, scale).t().contiguous(), power_of_two=power_of_two)


def scaled_product(a: Tensor, a_scale: Tensor, b: Tensor, b_scale: Tensor) -> Tensor:
    """a b^T: E4M3 [m, k] and [n, k] to float32 [m, n], promoted after every 128 of k.

    Scales are by tile [rows, k/128] or by block [rows/128, k/128]: 1 x 128 by 128 x 128 forward and
    for the input's gradient, 1 x 128 by 1 x 128 for the weight's.
    """
    m, n = a.shape[0], b.shape[0]
    a_scale, b_scale = by_row(a_scale, m), by_row(b_scale, n)
    a, b = decode_e4m3(a), decode_e4m3(b)
    total = torch.zeros(m, n, device=a.device)
    for step in range(a_scale.shape[1]):
        inner = slice(step * TILE, (step + 1) * TILE)
        part = a[:, inner] @ b[:, inner].t()
        total += part.mul_(a_scale[:, step, None]).mul_(b_scale[None, :, step])
    return total
