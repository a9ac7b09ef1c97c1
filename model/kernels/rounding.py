"""Rounding to E4M3 inside a kernel: the same bytes as `model/fp8.py`.

What is defined there is IEEE float32 division by the scale, clamping, and one rounding to nearest.
Compiled, the last two are one instruction for two numbers; the division would be fourteen with a
call, so it is done from the scale's reciprocal and corrected (Markstein 1990). With r = 1 / s to
half a unit in the last place (the machine's own is good to one unit; a tile can pay for a step of
Newton's), q = x r is off by less than two, and q + (x - q s) r, by two fused multiply-adds, by
2^-46 of itself before its one rounding. That is enough for E4M3: the quotients so near to a number
where float32 could then round to another byte are few enough to try them all, which a test does
(and which showed that the machine's own reciprocal is not enough). A second correction gives the
division's very float32, which the scale needs. For a power of two x r is exact already.

Interpreted, a multiply-add isn't fused and Triton 3.9.0's cast to E4M3 rounds wrongly, so there the
division is a division and the rounding is done in float32 first, after which the cast is exact.
"""

import triton
import triton.language as tl

from model.kernels.compile import INTERPRETED as _INTERPRETED

TILE = tl.constexpr(128)
E4M3_MAX = tl.constexpr(448.0)
SMALLEST_MAXIMUM = tl.constexpr(1e-4)
INVERSE_448 = tl.constexpr(1 / 448)
INTERPRETED = tl.constexpr(bool(_INTERPRETED))


@triton.jit
def _larger(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def largest(x, axis):
    """max |x| along an axis; NaN where there is one, as torch has it and `tl.max` has not."""
    if INTERPRETED:  # where any reduction but Triton's own goes number by number
        bits = x.to(tl.int32, bitcast=True) & 0x7FFFFFFF
        return tl.max(bits, axis).to(tl.float32, bitcast=True)
    return tl.reduce(tl.abs(x), axis, _larger)


@triton.jit
def tile_scale(maximum, POWER_OF_TWO: tl.constexpr):
    """`model.fp8.tile_scale`: the scales of tiles from their largest magnitudes, float32."""
    maximum = _larger(maximum, SMALLEST_MAXIMUM)
    if INTERPRETED:
        scale = tl.div_rn(maximum, 448.0)
    else:
        q = maximum * INVERSE_448
        q = tl.fma(tl.fma(q, -448.0, maximum), INVERSE_448, q)
        q = tl.fma(tl.fma(q, -448.0, maximum), INVERSE_448, q)
        scale = tl.where(maximum < float("inf"), q, maximum)
    if POWER_OF_TWO:
        bits = scale.to(tl.int32, bitcast=True)
        above = ((bits + 0x7FFFFF) & 0x7F800000).to(tl.float32, bitcast=True)
        scale = tl.where(scale < float("inf"), above, scale)
    return scale


@triton.jit
def _on_grid(x):
    """float32 in [-448, 448] to the nearest number of E4M3, still float32, with the sign of 0."""
    bits = x.to(tl.int32, bitcast=True)
    sign = bits & -0x80000000
    magnitude = (bits & 0x7FFFFFFF).to(tl.float32, bitcast=True)
    # One and a half times 2^20 times the binade: adding it leaves three bits of fraction, or the
    # multiples of 2^-9 in the lowest binade.
    binade = (bits & 0x7F800000).to(tl.float32, bitcast=True)
    large = tl.maximum(binade, 0.015625) * 1572864.0
    rounded = ((magnitude + large) - large).to(tl.int32, bitcast=True) | sign
    return rounded.to(tl.float32, bitcast=True)


@triton.jit
def to_e4m3(x):
    """float32 to E4M3, to nearest with ties to even, magnitudes above 448 to 448, NaN to NaN.

    Compiled, all of that is one instruction for two numbers (F2FP.SATFINITE.E4M3).
    """
    if INTERPRETED:
        x = tl.clamp(x, -448.0, 448.0, propagate_nan=tl.PropagateNan.ALL)
        q = _on_grid(x).to(tl.float8e4nv).to(tl.uint8, bitcast=True)
        return tl.where(x == x, q, 0x7F).to(tl.uint8).to(tl.float8e4nv, bitcast=True)
    return x.to(tl.float8e4nv)


@triton.jit
def round_tiles(x, scale, POWER_OF_TWO: tl.constexpr):
    """x / scale in E4M3; `scale` has x's shape with 1 where a tile runs."""
    finite = scale < float("inf")
    if POWER_OF_TWO:
        # The reciprocal of 2^e has the bits of 2^-e; of infinity it is 0, of NaN NaN.
        r = (0x7F000000 - scale.to(tl.int32, bitcast=True)).to(tl.float32, bitcast=True)
        return to_e4m3(x * tl.where(finite, r, tl.where(scale == scale, 0.0, scale)))
    if INTERPRETED:
        return to_e4m3(tl.div_rn(x, scale))
    r = tl.inline_asm_elementwise(
        "rcp.approx.ftz.f32 $0, $1;", "=f,f", [scale], dtype=tl.float32, is_pure=True, pack=1
    )
    # An infinite scale, whose reciprocal is 0, would make NaN in the corrections.
    s = tl.where(finite, scale, 0.0)
    r = tl.fma(tl.fma(-s, r, 1.0), r, r)
    q = x * r
    return to_e4m3(tl.fma(tl.fma(-q, s, x), r, q))


@triton.jit
def round_rows(x, POWER_OF_TWO: tl.constexpr):
    """Tiles of 1 x 128: x float32 [m, 128] to E4M3 [m, 128] and scales [m]."""
    scale = tile_scale(largest(x, 1), POWER_OF_TWO)
    return round_tiles(x, scale[:, None], POWER_OF_TWO), scale


@triton.jit
def round_columns(x, POWER_OF_TWO: tl.constexpr):
    """Tiles of 128 x 1: x float32 [128, k] to E4M3 [128, k] and scales [k]."""
    scale = tile_scale(largest(x, 0), POWER_OF_TWO)
    return round_tiles(x, scale[None, :], POWER_OF_TWO), scale
