"""RMSNorm with quantisation against float64, for narrow and wide rows, and the model's own norm."""

import pytest
import torch

from model import fp8
from model.kernels.rms_norm import rms_norm_quantize, rms_norm_reference
from model.norm import RMSNorm

EPS = 1e-6


def _weight(d):
    return 0.5 + torch.rand(d, generator=torch.Generator().manual_seed(d))


def test_the_reference_is_the_model_s_own_norm():
    x, norm = torch.randn(5, 12, dtype=torch.float64), RMSNorm(12, EPS).double()
    torch.testing.assert_close(rms_norm_reference(x, norm.weight, EPS)[0], norm(x))


@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1), (70, 128), (9, 512), (5, 1000), (3, 7168)])
def test_against_float64(shape, dtype, power_of_two, hostile, error):
    x, weight = hostile(*shape, dtype, seed=8), _weight(shape[1])
    exact, root = rms_norm_reference(x.double(), weight.double(), EPS)
    q, scale, inverse, y = rms_norm_quantize(
        x, weight, EPS, write_y=True, power_of_two=power_of_two
    )
    torch.testing.assert_close(inverse.double(), root, rtol=1e-6, atol=0)
    assert y.dtype == dtype
    assert error(y, exact) < (1e-6 if dtype == torch.float32 else 3e-3)
    assert error(fp8.dequantize(q, scale), exact) < 0.035
    expected, expected_scale = fp8.quantize_tiles(exact.float(), power_of_two=power_of_two)
    torch.testing.assert_close(scale, expected_scale, rtol=1e-6, atol=0)
    assert (q.view(torch.uint8) != expected.view(torch.uint8)).float().mean() < 1e-3
    again = rms_norm_quantize(x, weight, EPS, power_of_two=power_of_two)
    assert again[3] is None and torch.equal(again[0].view(torch.uint8), q.view(torch.uint8))


def test_what_was_rounded_is_what_the_norm_gave(same_bytes):
    """To the byte: the tiles are `model.fp8`'s of the float32 y the kernel itself computed."""
    x = torch.randn(40, 384, generator=torch.Generator().manual_seed(9))
    q, scale, _, y = rms_norm_quantize(x, _weight(384), EPS, write_y=True)
    expected, expected_scale = fp8.quantize_tiles(y)
    same_bytes(q, expected)
    assert torch.equal(scale, expected_scale)


def test_a_number_that_is_none_spoils_its_row_and_no_other():
    x = torch.randn(9, 256)
    x[4, 200] = float("nan")
    q, scale, _, _ = rms_norm_quantize(x, torch.ones(256), EPS)
    undefined = fp8.dequantize(q, scale).isnan()
    assert undefined[4].all() and undefined.sum() == 256


def test_rows_too_wide_for_registers_are_refused():
    with pytest.raises(ValueError, match="at most 8192"):
        rms_norm_quantize(torch.ones(1, 8193), torch.ones(8193), EPS)
