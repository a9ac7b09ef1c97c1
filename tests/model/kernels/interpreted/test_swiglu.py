"""SwiGLU with quantisation against float64, forward and backward, from bfloat16 and from FP8."""

import pytest
import torch

from model import fp8
from model.feedforward import swiglu
from model.kernels.swiglu import (
    swiglu_backward_reference,
    swiglu_quantize,
    swiglu_quantize_backward,
    swiglu_reference,
)


def _kept(x):
    return fp8.quantize_tiles(x, power_of_two=True)


def _nearly(found, found_scale, exact, error, **options):
    """Within FP8's error of the exact numbers, and almost all bytes those of rounding them."""
    assert error(fp8.dequantize(found, found_scale), exact) < 0.035
    expected, expected_scale = fp8.quantize_tiles(exact.float(), **options)
    torch.testing.assert_close(found_scale, expected_scale, rtol=2e-6, atol=0)
    differ = found.view(torch.uint8) != expected.view(torch.uint8)
    differ &= (found.float() != 0) | (expected.float() != 0)  # 0 and -0
    assert differ.float().mean() < 2e-3
    assert (found.float() - expected.float()).abs()[differ].le(expected.float().abs()[differ]).all()


def test_the_reference_is_the_model_s_own_activation():
    x = torch.randn(5, 12, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(5, 6, dtype=torch.float64)
    swiglu(x).backward(grad)
    found, h = swiglu_backward_reference(grad, x.detach())
    torch.testing.assert_close(found, x.grad)
    torch.testing.assert_close(h, swiglu(x.detach()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 2), (37, 2 * 128), (130, 2 * 200), (5, 2 * 129)])
def test_forward(shape, dtype, hostile, error):
    x = hostile(*shape, dtype, seed=4)
    exact = swiglu_reference(x.double())
    for power_of_two in (False, True):
        found = swiglu_quantize(x, power_of_two=power_of_two)
        _nearly(*found, exact, error, power_of_two=power_of_two)


@pytest.mark.parametrize("shape", [(3, 256), (130, 512)])
def test_forward_from_what_was_kept(shape, hostile, error):
    kept = _kept(hostile(*shape, seed=5))
    exact = swiglu_reference(fp8.dequantize(*kept).double())
    _nearly(*swiglu_quantize(*kept, power_of_two=True), exact, error, power_of_two=True)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("shape", [(1, 128), (130, 256)])
def test_backward(shape, keep, hostile, error):
    m, f = shape
    x = hostile(m, 2 * f, torch.bfloat16, seed=6)
    grad = hostile(m, f, torch.bfloat16, seed=7)
    inputs = _kept(x.float()) if keep else (x,)
    exact = fp8.dequantize(*inputs) if keep else x
    exact, h = swiglu_backward_reference(grad.double(), exact.double())
    found = swiglu_quantize_backward(grad, *inputs, power_of_two=keep)
    _nearly(*found[:2], exact, error, power_of_two=keep)
    _nearly(*found[2:4], exact.t().contiguous(), error, power_of_two=keep)
    _nearly(*found[4:], h.t().contiguous(), error, power_of_two=keep)


def test_far_from_zero_nothing_overflows(error):
    x = torch.tensor([[-1e4, -200.0, -1e-3, 0.0, 1e-3, 200.0, 1e4, -88.8]]).repeat(1, 2)
    q, scale = swiglu_quantize(x)
    assert error(fp8.dequantize(q, scale), swiglu_reference(x.double())) < 1e-3


def test_a_number_that_is_none_reaches_every_result():
    x, grad = torch.ones(128, 256), torch.ones(128, 128)
    x[5, 7] = float("nan")
    assert swiglu_quantize(x)[0].float().isnan().any()
    for q in swiglu_quantize_backward(grad, x)[::2]:
        assert q.float().isnan().any()


def test_widths_that_cut_a_tile_are_refused():
    with pytest.raises(ValueError, match="multiple of 128 columns"):
        swiglu_quantize_backward(torch.ones(4, 100), torch.ones(4, 200))
    with pytest.raises(ValueError, match="expected a multiple of 256 columns"):
        swiglu_quantize(*_kept(torch.ones(4, 200)))
    with pytest.raises(ValueError, match="expected a multiple of 2 columns"):
        swiglu_quantize(torch.ones(4, 3))
