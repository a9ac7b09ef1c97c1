"""What Hopper's tensor cores do to a long sum of FP8 products, simulated (sections 3.3.2, 3.5.2).

One instruction multiplies 32 pairs. The products are exact, but they are shifted right until all
have the exponent of the largest and only the top 14 bits stay; what is cut off is cut towards zero.
Their sum is added to a register that has 14 significant bits as well. The cuts all point the same
way, so over thousands of products the sum falls behind. The remedy is promotion: after every 128
products the register is multiplied by the tile's scales, added to a float32 sum, and starts anew.

No CPU and no interpreter of Triton shows this, so it is computed here, in float64, where every step
is exact. It costs about a thousand times a matrix product: it is for studying sums, not for models.

How the hardware rounds inside is known from measurements by others only (the report's "around 14
bits"); the widths are parameters.
"""

import torch
from torch import Tensor

INSTRUCTION = 32


def truncate(x: Tensor, bits: int, exponent: Tensor | None = None) -> Tensor:
    """Cut x (float64) towards zero to multiples of the last of `bits` bits below 2^exponent.

    By default each number has its own exponent, that is `bits` significant bits.
    """
    if exponent is None:
        exponent = torch.frexp(x).exponent
    unit = torch.ldexp(torch.ones_like(x), exponent - bits)
    return torch.trunc(x / unit) * unit


def tensor_core_product(
    a: Tensor, b: Tensor, *, promote_every: int | None, bits: int = 14
) -> Tensor:
    """a b^T as the tensor cores sum it: a [m, k], b [n, k] of E4M3 numbers, to float64 [m, n].

    `promote_every` products (a multiple of 32) the register is added to a float32 sum and cleared;
    None never does so. Raises ValueError for another number.
    """
    k = a.shape[1]
    if promote_every is not None and (promote_every < INSTRUCTION or promote_every % INSTRUCTION):
        raise ValueError(f"promote_every is {promote_every}, expected a multiple of {INSTRUCTION}")
    a, b = a.double(), b.double()
    register = a.new_zeros(a.shape[0], b.shape[0])
    total = torch.zeros_like(register, dtype=torch.float32)
    for start in range(0, k, INSTRUCTION):
        inner = slice(start, start + INSTRUCTION)
        products = a[:, None, inner] * b[None, :, inner]
        largest = torch.frexp(products.abs().amax(-1, keepdim=True)).exponent
        aligned = truncate(products, bits, largest).sum(-1)
        register = truncate(register + aligned, bits)
        if promote_every is not None and (start + INSTRUCTION) % promote_every == 0:
            total += register.float()
            register = torch.zeros_like(register)
    return total.double() + register
