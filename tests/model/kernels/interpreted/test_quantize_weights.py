"""Weights in blocks: the bytes of `model.fp8.quantize_blocks`, and their transpose."""

import pytest
import torch

from model import fp8
from model.kernels.quantize_weights import quantize_blocks


@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1), (128, 128), (200, 130), (3, 129, 260)])
def test_blocks_and_their_transpose_are_the_reference(
    shape, dtype, power_of_two, hostile, same_bytes
):
    w = hostile(torch.Size(shape[:-1]).numel(), shape[-1], dtype, seed=2).view(shape)
    q, scale, qt, qt_scale = quantize_blocks(w, power_of_two=power_of_two, transpose=True)
    expected, expected_scale = fp8.quantize_blocks(w.float(), power_of_two=power_of_two)
    same_bytes(q, expected)
    assert torch.equal(scale, expected_scale) and scale.is_contiguous()
    same_bytes(qt.mT, expected)
    assert torch.equal(qt_scale, expected_scale.mT)
    alone, alone_scale = quantize_blocks(w, power_of_two=power_of_two)
    same_bytes(alone, expected)
    assert torch.equal(alone_scale, expected_scale)


def test_the_error_is_that_of_four_significant_bits(error):
    w = torch.randn(300, 260, generator=torch.Generator().manual_seed(5))
    assert 0.02 < error(fp8.dequantize(*quantize_blocks(w)), w) < 0.03


def test_a_weight_that_is_no_number_spoils_its_block_and_no_other():
    w = torch.randn(2, 256, 256, generator=torch.Generator().manual_seed(6))
    w[1, 200, 3] = float("nan")
    undefined = fp8.dequantize(*quantize_blocks(w)).isnan()
    assert undefined[1, 128:, :128].all() and undefined.sum() == 128 * 128
