import pytest
import torch

from model.e5m6 import dequantize_e5m6, quantize_tiles_e5m6
from model.fp8 import (
    dequantize,
    quantize_blocks,
    quantize_tiles,
    requantize_columns,
    scaled_product,
)
from model.fp8_linear import fp8_grouped_linear, fp8_linear, round_columns


@pytest.mark.parametrize("shape", [(256, 256, 128), (5, 40, 24), (130, 200, 300)])
def test_all_three_products_are_near_the_exact_ones_but_rounded(shape):
    tokens, k, n = shape
    torch.manual_seed(0)
    x = torch.randn(tokens, k, requires_grad=True)
    w = torch.randn(n, k, requires_grad=True)
    grad = torch.randn(tokens, n)
    y = fp8_linear(x, w)
    y.backward(grad)
    exact = {"y": x @ w.t(), "dx": grad @ w, "dw": grad.t() @ x}
    for name, found in (("y", y), ("dx", x.grad), ("dw", w.grad)):
        error = ((found - exact[name]).norm() / exact[name].norm()).item()
        # Two operands of four bits: about 2.6 percent each, the kept x rounded twice.
        assert 0.005 < error < 0.06, (name, error)


def test_the_backward_pass_rounds_gradients_in_tiles_of_one_row():
    torch.manual_seed(0)
    w = torch.randn(128, 128)
    grad = torch.randn(2, 128)
    grad[0] *= 1e-6
    x = torch.zeros(2, 128, requires_grad=True)
    fp8_linear(x, w).backward(grad)
    exact = grad @ w
    # With one scale for both rows the small one would have vanished.
    assert ((x.grad - exact)[0].norm() / exact[0].norm()).item() < 0.06


def test_zeros_give_zeros():
    x = torch.zeros(3, 128, requires_grad=True)
    y = fp8_linear(x, torch.zeros(128, 128))
    assert not y.any()


def by_definition(x, w, grad, keep="e4m3", dispatched=False):
    """y, dx and dw of one matrix from the functions of `model/fp8.py` alone."""
    x_q, x_scale = quantize_tiles(x, power_of_two=True)
    w_q, w_scale = quantize_blocks(w)
    y = scaled_product(x_q, x_scale, w_q, w_scale)
    g_q, g_scale = quantize_tiles(grad, power_of_two=dispatched)
    transposed = w_q.view(torch.uint8).t().contiguous().view(w_q.dtype)
    dx = scaled_product(g_q, g_scale, transposed, w_scale.t())
    if keep == "e5m6":
        kept = dequantize_e5m6(*quantize_tiles_e5m6(x))
        columns = quantize_tiles(kept.t().contiguous(), power_of_two=True)
    else:
        columns = requantize_columns(x_q, x_scale)
    if dispatched:
        rows = requantize_columns(g_q, g_scale)
    else:
        rows = quantize_tiles(grad.t().contiguous())
    return y, dx, scaled_product(*rows, *columns)


@pytest.mark.parametrize("keep", ["e4m3", "e5m6"])
@pytest.mark.parametrize("shape", [(256, 256, 128), (150, 200, 300)])
def test_a_layer_computes_the_products_of_the_definition(shape, keep):
    tokens, k, n = shape
    torch.manual_seed(0)
    x = torch.randn(tokens, k, requires_grad=True)
    w = torch.randn(n, k, requires_grad=True)
    grad = torch.randn(tokens, n) * 10.0 ** torch.randint(-6, 3, (tokens, 1))
    fp8_linear(x, w, keep).backward(grad)
    y, dx, dw = by_definition(x.detach(), w.detach(), grad, keep)
    torch.testing.assert_close(fp8_linear(x, w, keep).detach(), y, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(x.grad, dx, rtol=1e-4, atol=1e-5 * dx.abs().max().item())
    torch.testing.assert_close(w.grad, dw, rtol=1e-4, atol=1e-5 * dw.abs().max().item())


def test_the_format_kept_changes_the_gradient_of_the_weight_alone():
    torch.manual_seed(0)
    found = []
    for keep in ("e4m3", "e5m6"):
        x, w = torch.randn(256, 128, requires_grad=True), torch.randn(64, 128, requires_grad=True)
        with torch.no_grad():
            x.copy_(torch.linspace(-3, 3, x.numel()).view_as(x).sin())
            w.copy_(torch.linspace(-2, 2, w.numel()).view_as(w).cos())
        y = fp8_linear(x, w, keep)
        y.backward(y.detach().cos())
        found.append((y.detach(), x.grad, w.grad))
    (y4, x4, w4), (y6, x6, w6) = found
    assert torch.equal(y4, y6)
    assert torch.equal(x4, x6)
    assert not torch.equal(w4, w6)


def test_experts_are_rounded_each_for_itself_and_their_gradients_as_dispatched():
    torch.manual_seed(0)
    counts = [150, 0, 1, 128, 33]
    x = torch.randn(sum(counts), 200, requires_grad=True)
    w = torch.randn(5, 130, 200, requires_grad=True)
    grad = torch.randn(sum(counts), 130)
    y = fp8_grouped_linear(x, w, counts)
    y.backward(grad)
    pieces = (t.split(counts) for t in (x.detach(), grad, y.detach(), x.grad))
    for rows, g, out, dx, matrix, dw in zip(*pieces, w.detach(), w.grad, strict=True):
        if not len(rows):
            assert not dw.any()
            continue
        expected = by_definition(rows, matrix, g, dispatched=True)
        for ours, theirs in zip((out, dx, dw), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_columns_begin_anew_at_every_group():
    torch.manual_seed(0)
    counts = [300, 0, 5, 129]
    # More numbers than are worked on at a time.
    x = torch.randn(sum(counts), 700) * 10.0 ** torch.randint(-8, 5, (sum(counts), 1))
    for power_of_two in (False, True):
        found = round_columns(x, counts, power_of_two=power_of_two)
        for piece, rounded in zip(x.split(counts), found.split(counts), strict=True):
            q, scale = quantize_tiles(piece.t().contiguous(), power_of_two=power_of_two)
            assert torch.equal(rounded, dequantize(q, scale).t() if len(piece) else piece)


def test_nothing_but_eight_bits_is_kept_of_the_operands():
    x, w = torch.randn(256, 512, requires_grad=True), torch.randn(128, 512, requires_grad=True)
    kept = {}

    def pack(tensor):
        kept[tensor.dtype] = kept.get(tensor.dtype, 0) + tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        fp8_linear(x, w)
    assert kept == {
        torch.float8_e4m3fn: x.numel() + w.numel(),
        torch.float32: x.numel() // 128 + w.numel() // 128**2,
    }


def test_no_rows_at_all_give_none():
    x, w = torch.randn(0, 40, requires_grad=True), torch.randn(2, 24, 40, requires_grad=True)
    y = fp8_grouped_linear(x, w, [0, 0])
    y.sum().backward()
    assert y.shape == (0, 24)
    assert not w.grad.any()


def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match="e3m4"):
        fp8_linear(torch.randn(2, 4), torch.randn(3, 4), "e3m4")


def test_gradients_may_be_scaled_until_the_floor_of_the_maximum_swallows_them():
    torch.manual_seed(0)
    x, w = torch.randn(128, 256), torch.randn(128, 256)
    grad = torch.randn(128, 128)

    def gradients(scale):
        inputs, weight = x.clone().requires_grad_(), w.clone().requires_grad_()
        fp8_linear(inputs, weight).backward(grad * scale)
        return inputs.grad / scale, weight.grad / scale

    for ours, same in zip(gradients(1.0), gradients(2.0**-12), strict=True):
        assert torch.equal(ours, same)
    # A power of two below the floor leaves few of the bits; a divided loss can do that.
    for ours, spoiled in zip(gradients(1.0), gradients(2.0**-34), strict=True):
        assert (spoiled - ours).norm() > 0.3 * ours.norm()
