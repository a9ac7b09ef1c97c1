"""Quantising kernels give the bytes of `model.fp8`, in both orientations, whatever the input."""

import pytest
import torch

from model import fp8
from model.kernels import quantize

SHAPES = [(1, 1), (128, 128), (77, 384), (130, 200), (257, 129)]
BOTH = [False, True]


@pytest.mark.parametrize("power_of_two", BOTH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_both_orientations_are_the_reference_to_the_byte(
    shape, dtype, power_of_two, hostile, same_bytes
):
    x = hostile(*shape, dtype, seed=sum(shape))
    q, scale, qt, qt_scale = quantize.quantize_both(x, power_of_two=power_of_two)
    expected, expected_scale = fp8.quantize_tiles(x.float(), power_of_two=power_of_two)
    same_bytes(q, expected)
    assert torch.equal(scale, expected_scale)
    turned = x.float().t().contiguous()
    expected, expected_scale = fp8.quantize_tiles(turned, power_of_two=power_of_two)
    same_bytes(qt, expected)
    assert torch.equal(qt_scale, expected_scale)
    alone, alone_scale = quantize.quantize_tiles(x, power_of_two=power_of_two)
    same_bytes(alone, q)
    assert torch.equal(alone_scale, scale)
    alone, alone_scale = quantize.quantize_columns(x, power_of_two=power_of_two)
    same_bytes(alone, qt)
    assert torch.equal(alone_scale, qt_scale)


@pytest.mark.parametrize("power_of_two", BOTH)
@pytest.mark.parametrize("shape", SHAPES)
def test_columns_from_what_was_kept_are_the_reference_to_the_byte(
    shape, power_of_two, hostile, same_bytes
):
    q, scale = fp8.quantize_tiles(hostile(*shape, seed=3), power_of_two=True)
    expected, expected_scale = fp8.requantize_columns(q, scale, power_of_two=power_of_two)
    for strided in (scale, scale.t().contiguous().t()):
        found, found_scale = quantize.requantize_columns(q, strided, power_of_two=power_of_two)
        same_bytes(found, expected)
        assert torch.equal(found_scale, expected_scale)


def test_rounding_twice_is_not_rounding_once_unless_scales_are_powers_of_two(hostile):
    x = torch.randn(256, 128, generator=torch.Generator().manual_seed(1))
    *kept, qt, _ = quantize.quantize_both(x, power_of_two=False)
    again, again_scale = quantize.requantize_columns(*kept, power_of_two=False)
    assert not torch.equal(again.view(torch.uint8), qt.view(torch.uint8))
    *kept, _, _ = quantize.quantize_both(x, power_of_two=True)
    again, again_scale = quantize.requantize_columns(*kept, power_of_two=True)
    first = fp8.dequantize(*kept)
    second = fp8.dequantize(again, again_scale).t()
    # What stays above the subnormal numbers of its second scale is kept exactly.
    normal = first.abs() >= fp8.by_row(again_scale, 128).t().repeat_interleave(128, 0) * 2.0**-6
    assert normal.any() and torch.equal(first[normal], second[normal])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_error_is_that_of_four_significant_bits(dtype, error):
    x = torch.randn(300, 260, generator=torch.Generator().manual_seed(5)).to(dtype)
    q, scale, qt, qt_scale = quantize.quantize_both(x)
    assert 0.02 < error(fp8.dequantize(q, scale), x) < 0.03
    assert 0.02 < error(fp8.dequantize(qt, qt_scale).t(), x) < 0.03


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("power_of_two", BOTH)
def test_a_number_that_is_none_spoils_its_tiles_and_no_other(bad, power_of_two, same_bytes):
    x = torch.randn(256, 256, generator=torch.Generator().manual_seed(6))
    x[3, 200] = bad
    q, scale, qt, qt_scale = quantize.quantize_both(x, power_of_two=power_of_two)
    same_bytes(q, fp8.quantize_tiles(x, power_of_two=power_of_two)[0])
    undefined = fp8.dequantize(q, scale).isnan()
    assert undefined[3, 128:].all() and undefined.sum() == 128
    undefined = fp8.dequantize(qt, qt_scale).isnan()
    assert undefined[200, :128].all() and undefined.sum() == 128


def test_nothing_to_quantise_is_nothing():
    q, scale, qt, qt_scale = quantize.quantize_both(torch.zeros(0, 256))
    assert q.shape == (0, 256) and scale.shape == (0, 2)
    assert qt.shape == (256, 0) and qt_scale.shape == (256, 0)


def test_scales_are_stored_with_the_tokens_innermost():
    _, scale, _, qt_scale = quantize.quantize_both(torch.ones(256, 384))
    assert scale.stride() == (1, 256) and qt_scale.stride() == (1, 384)
