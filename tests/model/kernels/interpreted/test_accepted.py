"""What would make a kernel read other numbers than were meant is refused; views are taken as they
are."""

import pytest
import torch
from operands import distance, rounded

from model.fp8 import scaled_product
from model.fp8_linear import fp8_grouped_linear, fp8_linear
from model.kernels import (
    cross_entropy,
    decode,
    grouped,
    permute,
    product,
    quantize,
    quantize_weights,
    rms_norm,
    swiglu,
)

A, A_SCALE, _ = rounded(torch.randn(6, 130), "tile")
B, B_SCALE, _ = rounded(torch.randn(5, 130), "block")
LAYOUT = permute.plan(torch.tensor([[0, 1], [1, 2]]), 3)
STARTS, COUNTS = torch.tensor([[0, 4], [4, 2]], dtype=torch.int32).unbind(1)
X = torch.randn(2, 130)
FINE = torch.randn(4, 256)
PRODUCT = (A, A_SCALE, B, B_SCALE)
GROUPED = (A, A_SCALE, B.expand(2, 5, 130), B_SCALE.expand(2, 1, 2), STARTS, COUNTS)
COLUMNS = (*rounded(torch.randn(6, 256), "tile")[:2], *rounded(torch.randn(5, 256), "tile")[:2])
GRADIENT = (*COLUMNS, torch.tensor([0, 1, 2], dtype=torch.int32))
DECODE = (torch.randn(2, 1, 3, 24), torch.randn(2, 9, 24), torch.tensor([9, 4], dtype=torch.int32))


def refused(function, arguments, at, changed):
    arguments = list(arguments)
    arguments[at] = changed(arguments[at])
    with pytest.raises(ValueError, match="expected"):
        function(*arguments)


def half(x):
    return x.half()


def double(x):
    return x.double()


def bits(x):
    return x.view(torch.uint8)


def other_e5m2(x):
    return x.view(torch.float8_e5m2)


def long(x):
    return x.long()


def shorter(x):
    return x[:-1]


@pytest.mark.parametrize(
    ("function", "arguments", "at", "changed"),
    [
        (quantize.quantize_tiles, (FINE,), 0, half),
        (quantize.quantize_both, (FINE,), 0, double),
        (quantize.quantize_columns, (FINE,), 0, long),
        (quantize.requantize_columns, (A, A_SCALE), 0, bits),
        (quantize.requantize_columns, (A, A_SCALE), 0, other_e5m2),
        (quantize.requantize_columns, (A, A_SCALE), 1, double),
        (quantize.requantize_columns, (A, A_SCALE), 1, shorter),
        (quantize_weights.quantize_blocks, (FINE,), 0, double),
        (product.product, PRODUCT, 0, bits),
        (product.product, PRODUCT, 2, other_e5m2),
        (product.product, PRODUCT, 1, half),
        (product.product, PRODUCT, 3, double),
        (grouped.grouped_product, GROUPED, 0, bits),
        (grouped.grouped_product, GROUPED, 4, long),
        (grouped.grouped_product, GROUPED, 5, shorter),
        (grouped.grouped_weight_gradient, GRADIENT, 2, other_e5m2),
        (grouped.grouped_weight_gradient, GRADIENT, 4, long),
        (swiglu.swiglu_quantize, (FINE,), 0, half),
        (swiglu.swiglu_quantize, rounded(FINE, "tile")[:2], 1, shorter),
        (swiglu.swiglu_quantize_backward, (FINE[:, :128], FINE), 0, long),
        (lambda x, w: rms_norm.rms_norm_quantize(x, w, 1e-6), (X, X[0]), 0, half),
        (lambda x, w: rms_norm.rms_norm_quantize(x, w, 1e-6), (X, X[0]), 1, shorter),
        (permute.dispatch, (X, LAYOUT), 0, shorter),
        (permute.dispatch, (X, LAYOUT, X[:, :2]), 2, shorter),
        (permute.combine, (torch.randn(LAYOUT.rows, 8), LAYOUT), 0, shorter),
        (permute.gate_gradient, (X[:, :8], torch.randn(LAYOUT.rows, 8), LAYOUT), 0, shorter),
        (cross_entropy.softmax_gradient_, (X, torch.zeros(2).long(), True), 0, half),
        (cross_entropy.softmax_gradient_, (X, torch.zeros(2).long(), True), 1, shorter),
        (cross_entropy.softmax_gradient_, (X, torch.zeros(2).int(), True), 0, lambda x: x),
        (cross_entropy.softmax_gradient_, (X, torch.zeros(2).long(), True), 0, lambda x: x[:, ::2]),
        (lambda *a: decode.attend_to_latents(*a, 16, 1.0), DECODE, 1, half),
        (lambda *a: decode.attend_to_latents(*a, 16, 1.0), DECODE, 2, long),
        (lambda *a: decode.attend_to_latents(*a, 16, 1.0), DECODE, 2, shorter),
    ],
)
def test_another_type_or_size_is_refused(function, arguments, at, changed):
    refused(function, arguments, at, changed)


def test_counts_that_are_not_those_of_the_rows_are_refused():
    with pytest.raises(ValueError, match="experts have 5 rows in all, x has 2"):
        fp8_grouped_linear(X, torch.randn(2, 3, 130), [4, 1])


def test_a_label_outside_of_the_vocabulary_shows_in_its_row_alone():
    logits = torch.randn(4, 70)
    losses = cross_entropy.softmax_gradient_(logits.clone(), torch.tensor([3, 70, -1, 5]), False)
    assert losses.isnan().tolist() == [False, True, True, False]
    expected = torch.nn.functional.cross_entropy(
        logits[::3], torch.tensor([3, 5]), reduction="none"
    )
    assert distance(losses[::3], expected) < 1e-6


def test_inputs_may_be_views_with_other_strides():
    wide, lengths = torch.randn(8, 2, 260), torch.tensor([[9, 1], [4, 1]], dtype=torch.int32)
    x, weight = wide[::2, 1, ::2], torch.randn(260)[::2]
    for function in (quantize.quantize_tiles, quantize.quantize_both, quantize.quantize_columns):
        for found, expected in zip(function(x), function(x.clone()), strict=True):
            assert torch.equal(found.float(), expected.float())
    found, expected = (rms_norm.rms_norm_quantize(x, w, 1e-6)[0] for w in (weight, weight.clone()))
    assert torch.equal(found.float(), expected.float())
    q, cache, plain = DECODE
    found = decode.attend_to_latents(q, cache, lengths[:, 0], 16, 1.0)
    assert torch.equal(found, decode.attend_to_latents(q, cache, plain, 16, 1.0))
    # Starts and counts of experts are columns of one tensor here.
    found = grouped.grouped_product(*GROUPED)
    assert distance(found, scaled_product(*PRODUCT)) < 1e-6


def test_more_rows_than_there_are_touch_no_memory_behind_them(monkeypatch):
    memory = torch.full((300, 5), 7.0)
    counts = torch.tensor([4, 100], dtype=torch.int32)
    with monkeypatch.context() as patched:
        patched.setattr(torch, "empty", lambda *shape, **_: memory[: shape[0]])
        found = grouped.grouped_product(*GROUPED[:5], counts)
    assert found.data_ptr() == memory.data_ptr() and (memory[6:] == 7.0).all()
    assert distance(found, scaled_product(*PRODUCT)) < 1e-6


@pytest.mark.parametrize(("rows", "k", "n"), [(1, 1, 1), (1, 17, 3), (1, 128, 1), (2, 129, 257)])
def test_a_single_token_and_widths_of_nothing_in_particular(rows, k, n):
    # Of one sign, so that nothing cancels.
    x, w = (torch.rand(m, k).add_(0.1).requires_grad_() for m in (rows, n))
    y = fp8_linear(x, w)
    y.backward(torch.ones_like(y))
    assert distance(y.detach(), (x @ w.t()).detach()) < 0.1
    assert distance(x.grad, w.detach().sum(0).expand(rows, k)) < 0.1
    assert distance(w.grad, x.detach().sum(0).expand(n, k)) < 0.1


def test_experts_without_a_single_token():
    x, w = torch.randn(0, 130, requires_grad=True), torch.randn(3, 5, 130, requires_grad=True)
    y = fp8_grouped_linear(x, w, [0, 0, 0])
    y.sum().backward()
    assert y.shape == (0, 5) and x.grad.shape == x.shape
    assert torch.equal(w.grad, torch.zeros_like(w))
    layout = permute.plan(torch.zeros(0, 2, dtype=torch.int64), 3)
    assert [len(t) for t in permute.dispatch(x.detach(), layout)] == [0, 0]
    assert permute.combine(torch.randn(0, 130), layout).shape == (0, 130)
