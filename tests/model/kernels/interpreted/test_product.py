"""The FP8 product in the interpreter, against float64 and against `model.fp8`."""

import pytest
import torch
from operands import KINDS, distance, numbers, rounded

from model.fp8 import scaled_product
from model.kernels.product import product

# float32 sums of up to 5 steps of 128; the operands are exact in both.
CLOSE = 5e-7


@pytest.mark.parametrize("by", ["block", "tile"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_product_is_that_of_the_numbers_meant(kind, by):
    a, a_scale, a_meant = rounded(numbers(kind, 150, 320), "tile")
    b, b_scale, b_meant = rounded(numbers(kind, 200, 320), by)
    found = product(a, a_scale, b, b_scale)
    assert found.shape == (150, 200)
    assert distance(found, a_meant @ b_meant.t()) < CLOSE


@pytest.mark.parametrize("by", ["block", "tile"])
def test_the_product_is_that_of_the_reference(by):
    a, a_scale, _ = rounded(numbers("outliers", 150, 384), "tile")
    b, b_scale, _ = rounded(numbers("normal", 256, 384), by)
    expected = scaled_product(a, a_scale, b, b_scale)
    assert distance(product(a, a_scale, b, b_scale), expected) < CLOSE


@pytest.mark.parametrize("by", ["block", "tile"])
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1), (1, 130, 128), (129, 1, 127), (128, 128, 129), (3, 257, 640), (64, 128, 128)],
)
def test_no_dimension_need_be_a_multiple_of_anything(shape, by):
    m, n, k = shape
    a, a_scale, a_meant = rounded(numbers("normal", m, k), "tile")
    b, b_scale, b_meant = rounded(numbers("outliers", n, k), by)
    found = product(a, a_scale, b, b_scale)
    assert distance(found, a_meant @ b_meant.t()) < CLOSE


@pytest.mark.parametrize("shape", [(0, 5, 128), (5, 0, 128), (5, 7, 0)])
def test_an_empty_dimension_gives_zeros_or_nothing(shape):
    m, n, k = shape
    a, b = (torch.empty(rows, k, dtype=torch.float8_e4m3fn) for rows in (m, n))
    found = product(a, torch.empty(m, k // 128), b, torch.empty(n, k // 128))
    assert found.shape == (m, n) and bool((found == 0).all())


def test_scales_and_operands_may_be_views():
    a, a_scale, a_meant = rounded(numbers("normal", 70, 256), "tile")
    b, b_scale, b_meant = rounded(numbers("normal", 90, 256), "block")
    wide = torch.zeros(70, 512, dtype=torch.uint8).view(torch.float8_e4m3fn)
    wide[:, 128:384].view(torch.uint8).copy_(a.view(torch.uint8))
    lying = a_scale.t().contiguous().t()
    found = product(wide[:, 128:384], lying, b, b_scale)
    assert distance(found, a_meant @ b_meant.t()) < CLOSE


def test_the_output_may_be_bfloat16():
    a, a_scale, _ = rounded(numbers("normal", 33, 256), "tile")
    b, b_scale, _ = rounded(numbers("normal", 40, 256), "block")
    found = product(a, a_scale, b, b_scale, torch.bfloat16)
    assert found.dtype == torch.bfloat16
    assert distance(found, product(a, a_scale, b, b_scale)) < 2**-8


def test_an_undefined_scale_shows_in_its_row_alone():
    a, a_scale, _ = rounded(numbers("normal", 20, 256), "tile")
    b, b_scale, _ = rounded(numbers("normal", 30, 256), "block")
    a_scale[7, 1] = float("nan")
    undefined = product(a, a_scale, b, b_scale).isnan()
    assert undefined[7].all() and int(undefined.sum()) == 30


def test_scales_of_another_shape_are_refused():
    a, a_scale, _ = rounded(numbers("normal", 20, 256), "tile")
    b, b_scale, _ = rounded(numbers("normal", 300, 256), "block")
    with pytest.raises(ValueError, match=r"expected scales \[20, 2\] and \[300, 2\] or \[3, 2\]"):
        product(a, a_scale, b, b_scale[:2])
    with pytest.raises(ValueError, match="FP8 product of"):
        product(a, a_scale[:, :1], b, b_scale)
