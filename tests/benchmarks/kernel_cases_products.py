"""Cases of the FP8 products: against `model.fp8`, cuBLAS in bfloat16 and torch's own FP8 products.

Peers multiply the same shapes, from operands made beforehand: `torch.mm` in bfloat16; and
`torch._scaled_mm` in FP8 with one scale a matrix, one a row (as far as it could be asked on Hopper
for long), and in DeepSeek's tiles and blocks through `torch.nn.functional.scaled_mm`, which needs
CUDA 12.9. For experts `torch._grouped_mm` in bfloat16 and `torch._scaled_grouped_mm` with a scale a
row. The numbers of theirs mean something else where scales are coarser, so they are only timed.

Shapes are (tokens, outputs, inputs), for experts with their number before the outputs, of v3-671b.
"""

from dataclasses import dataclass

import torch
from kernel_case import Case
from torch import Tensor
from torch.nn.functional import ScalingType, scaled_mm

from model import fp8
from model.kernels import grouped, product, quantize, quantize_weights

# The shared expert's gate and up, the linear after attention, the queries'.
LINEARS = [(4096, 4096, 7168), (4096, 7168, 16384), (4096, 24576, 1536)]
# A rank's experts: gate and up, and down, with the rows that 4,096 tokens bring it.
EXPERTS = [(32768, 4, 4096, 7168), (32768, 4, 7168, 2048)]


@dataclass(frozen=True)
class ForPeers:
    """Operands of a b^T in bfloat16, and scales by row: a [m, k], b [n, k] or [E, n, k]; `ends`
    int32 [E] is where each expert's rows end."""

    a: Tensor
    b: Tensor
    a_scale: Tensor
    b_scale: Tensor
    ends: Tensor | None = None


def _normal(*shape, device):
    generator = torch.Generator(device).manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, device=device).bfloat16()


def _for_peers(a, b, ends=None):
    ones = (torch.ones(*x.shape[:-1], 1, device=a.device) for x in (a, b))
    return ForPeers(a, b, *ones, ends)


def _forward(shape, device):
    m, n, k = shape
    x, w = _normal(m, k, device=device), _normal(n, k, device=device)
    rows = quantize.quantize_tiles(x, power_of_two=True)
    return *rows, *quantize_weights.quantize_blocks(w), _for_peers(x, w)


def _input_gradient(shape, device):
    m, n, k = shape
    dy, w = _normal(m, n, device=device), _normal(n, k, device=device)
    wt, wt_scale = quantize_weights.quantize_blocks(w, transpose=True)[2:]
    return *quantize.quantize_tiles(dy), wt, wt_scale, _for_peers(dy, w.mT.contiguous())


def _weight_gradient(shape, device):
    m, n, k = shape
    dy, x = _normal(m, n, device=device), _normal(m, k, device=device)
    columns = quantize.quantize_columns(dy), quantize.quantize_columns(x, power_of_two=True)
    return *columns[0], *columns[1], _for_peers(dy.mT.contiguous(), x.mT.contiguous())


def _product_to(dtype):
    return lambda a, a_scale, b, b_scale, _: (product.product(a, a_scale, b, b_scale, dtype),)


def _reference_to(dtype):
    return lambda a, sa, b, sb, _: (fp8.scaled_product(a, sa, b, sb).to(dtype),)


def _mm(a, a_scale, b, b_scale, own):
    return torch.mm(own.a, own.b.t())


def _scaled_tensor(a, a_scale, b, b_scale, own):
    one = own.a_scale[:1, 0]
    return torch._scaled_mm(a, b.t(), one, one, out_dtype=torch.bfloat16)


def _scaled_rows(a, a_scale, b, b_scale, own):
    scales = own.a_scale, own.b_scale.t()
    return torch._scaled_mm(a, b.t(), *scales, out_dtype=torch.bfloat16)


def _scaled_tiles(of_b):
    def multiply(a, a_scale, b, b_scale, own):
        return scaled_mm(
            a, b.t(), a_scale, ScalingType.BlockWise1x128, b_scale, of_b,
            output_dtype=torch.bfloat16,
        )  # fmt: skip

    return multiply


def _peers(of_b):
    return {
        "mm bf16": _mm,
        "_scaled_mm": _scaled_tensor,
        "_scaled_mm rows": _scaled_rows,
        "scaled_mm tiles": _scaled_tiles(of_b),
    }


BLOCKS = _peers(ScalingType.BlockWise128x128)
TILES = _peers(ScalingType.BlockWise1x128)


def _counts(rows, experts, device):
    """Rows of each expert: multiples of 128 but for the last, and uneven."""
    tiles = max(1, rows // (128 * experts))
    counts = [min(rows, tiles * 128 + (-1) ** e * 128 * (tiles // 4)) for e in range(experts - 1)]
    return torch.tensor([*counts, rows - sum(counts)], dtype=torch.int32, device=device)


def _rows_of_experts(shape, device):
    rows, experts, n, k = shape
    x, w = _normal(rows, k, device=device), _normal(experts, n, k, device=device)
    counts = _counts(rows, experts, device)
    ends = counts.cumsum(0, dtype=torch.int32)
    operands = *quantize.quantize_tiles(x, power_of_two=True), *quantize_weights.quantize_blocks(w)
    return *operands, ends - counts, counts, _for_peers(x, w, ends)


def _masked_rows(shape, device):
    """Room for as many rows each; half of it, less for every next expert, is filled."""
    room, experts, n, k = shape
    x, w = _normal(experts * room, k, device=device), _normal(experts, n, k, device=device)
    starts = torch.arange(experts, dtype=torch.int32, device=device) * room
    counts = room // (2 + torch.arange(experts, dtype=torch.int32, device=device) % 4)
    operands = *quantize.quantize_tiles(x, power_of_two=True), *quantize_weights.quantize_blocks(w)
    return *operands, starts, counts, None


def _grouped(*inputs):
    return (grouped.grouped_product(*inputs[:-1], torch.bfloat16),)


def _grouped_reference(*inputs):
    return (grouped.grouped_product_reference(*inputs[:-1]).bfloat16(),)


def _grouped_mm(*inputs):
    own = inputs[-1]
    return torch._grouped_mm(own.a, own.b.mT, offs=own.ends)


def _grouped_rows(a, a_scale, b, b_scale, starts, counts, own):
    return torch._scaled_grouped_mm(
        a, b.mT, own.a_scale[:, 0], own.b_scale[:, :, 0], offs=own.ends, out_dtype=torch.bfloat16
    )


def _columns_of_experts(shape, device):
    rows, experts, n, k = shape
    rows = -(-rows // 128) * 128  # every expert's are filled up to a multiple of 128
    dy, x = _normal(rows, n, device=device), _normal(rows, k, device=device)
    ends = _counts(rows, experts, device).cumsum(0, dtype=torch.int32)
    steps = torch.cat([ends.new_zeros(1), ends // 128])
    columns = quantize.quantize_columns(dy), quantize.quantize_columns(x, power_of_two=True)
    return *columns[0], *columns[1], steps, _for_peers(dy.mT, x.mT, ends)


def _products(shape):
    return 2.0 * torch.Size(shape).numel()


def _expert_products(shape):
    rows, _, n, k = shape
    return 2.0 * rows * n * k


CASES = [
    Case(
        "product", LINEARS, (70, 200, 272), _forward,
        _product_to(torch.bfloat16), _reference_to(torch.bfloat16),
        lambda s: s[0] * s[2] * 1.03 + s[1] * s[2] + 2 * s[0] * s[1], _products,
        peers=BLOCKS, tolerance=5e-3,
    ),
    Case(
        "product_input_gradient", LINEARS, (70, 200, 150), _input_gradient,
        _product_to(torch.bfloat16), _reference_to(torch.bfloat16),
        lambda s: s[0] * s[1] * 1.03 + s[1] * s[2] + 2 * s[0] * s[2], _products,
        peers=BLOCKS, tolerance=5e-3,
    ),
    Case(
        "product_weight_gradient", LINEARS, (150, 70, 200), _weight_gradient,
        _product_to(torch.float32), _reference_to(torch.float32),
        lambda s: 1.03 * s[0] * (s[1] + s[2]) + 4 * s[1] * s[2], _products,
        peers=TILES, tolerance=1e-5,
    ),
    Case(
        "grouped_product", EXPERTS, (300, 3, 72, 200), _rows_of_experts,
        _grouped, _grouped_reference,
        lambda s: s[0] * s[3] * 1.03 + s[1] * s[2] * s[3] + 2 * s[0] * s[2], _expert_products,
        peers={"_grouped_mm bf16": _grouped_mm, "_scaled_grouped_mm rows": _grouped_rows},
        tolerance=5e-3,
    ),
    Case(
        "grouped_product_masked", [(128, 4, 4096, 7168), (128, 4, 7168, 2048)], (16, 3, 72, 200),
        _masked_rows, _grouped, _grouped_reference,
        lambda s: s[1] * s[2] * s[3],
        tolerance=5e-3, partial=True,
    ),
    Case(
        "grouped_weight_gradient", EXPERTS, (384, 3, 72, 70), _columns_of_experts,
        lambda *inputs: (grouped.grouped_weight_gradient(*inputs[:-1]),),
        lambda *inputs: (grouped.grouped_weight_gradient_reference(*inputs[:-1]),),
        lambda s: 1.03 * s[0] * (s[2] + s[3]) + 4 * s[1] * s[2] * s[3], _expert_products,
        peers={"_grouped_mm bf16": lambda *inputs: torch._grouped_mm(
            inputs[-1].a, inputs[-1].b.mT, offs=inputs[-1].ends)},
        tolerance=1e-5,
    ),
]  # fmt: skip
