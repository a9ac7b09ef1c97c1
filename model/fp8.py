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
from torch.nn import functional as F

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
    """E4M3 to float32, exactly `q.float()`, in a seventh of its time on a CPU.

    Sign and the seven bits below it, moved to their places in a float16, are the number times
    2^-8, since the two formats' exponents differ by 8 (subnormal numbers included). The shift
    leaves a second copy of the sign at bit 14, which is cleared.
    """
    bits = q.view(torch.int8).to(torch.int16).bitwise_left_shift_(7).bitwise_and_(~0x4000)
    undefined = bits.bitwise_and(0x3F80) == 0x3F80
    return bits.view(torch.float16).float().mul_(256.0).masked_fill_(undefined, math.nan)


def quantize_tiles(x: Tensor, *, power_of_two: bool = False) -> tuple[Tensor, Tensor]:
    """Round x: float32 [..., k] in tiles of 1 x 128 along the last dimension.

    Gives E4M3 [..., k] and float32 scales [..., k/128], with x ~ q * scale.
    """
    k = x.shape[-1]
    tiles = F.pad(x, (0, -k % TILE)).unflatten(-1, (-1, TILE))
    scale = tile_scale(tiles.abs().amax(-1), power_of_two=power_of_two)
    return round_e4m3(tiles / scale[..., None]).flatten(-2)[..., :k].contiguous(), scale


def quantize_blocks(w: Tensor, *, power_of_two: bool = False) -> tuple[Tensor, Tensor]:
    """Round w: float32 [..., n, k] in blocks of 128 x 128.

    Gives E4M3 [..., n, k] and float32 scales [..., n/128, k/128], with w ~ q * scale.
    """
    n, k = w.shape[-2:]
    padded = F.pad(w, (0, -k % TILE, 0, -n % TILE))
    blocks = padded.unflatten(-1, (-1, TILE)).unflatten(-3, (-1, TILE))  # [n/128, 128, k/128, 128]
    scale = tile_scale(blocks.abs().amax((-3, -1)), power_of_two=power_of_two)
    q = round_e4m3(blocks / scale[..., :, None, :, None])
    return q.flatten(-2).flatten(-3, -2)[..., :n, :k].contiguous(), scale


def spread_scale(scale: Tensor, shape: torch.Size) -> Tensor:
    """Give every number of [..., m, k] its scale, from scales by tile [..., m, k/128] or by block
    [..., m/128, k/128].
    """
    m, k = shape[-2:]
    if scale.shape[-2] != m:
        scale = scale.repeat_interleave(TILE, -2)[..., :m, :]
    return scale.repeat_interleave(TILE, -1)[..., :k]


def dequantize(q: Tensor, scale: Tensor) -> Tensor:
    """float32 [..., m, k] from E4M3 [..., m, k] and its scales, by row tile or by block."""
    return decode_e4m3(q).mul_(spread_scale(scale, q.shape))


def requantize_columns(
    q: Tensor, scale: Tensor, *, power_of_two: bool = True
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
    if a_scale.shape[0] != m:
        a_scale = a_scale.repeat_interleave(TILE, 0)[:m]
    if b_scale.shape[0] != n:
        b_scale = b_scale.repeat_interleave(TILE, 0)[:n]
    a, b = decode_e4m3(a), decode_e4m3(b)
    total = torch.zeros(m, n, device=a.device)
    for step in range(a_scale.shape[1]):
        inner = slice(step * TILE, (step + 1) * TILE)
        part = a[:, inner] @ b[:, inner].t()
        total += part.mul_(a_scale[:, step, None]).mul_(b_scale[None, :, step])
    return total
