"""Matrices of more than 2^31 numbers: the program that has the last block finds it.

They lie in sparse files, of which only touched pages exist; of a launch's many programs only that
one is run, by telling the interpreter its number.
"""

import pytest
import torch
from operands import distance
from triton.runtime import interpreter

from model import fp8
from model.kernels import cross_entropy, grouped, permute, product, quantize, swiglu

M, K = 270_000, 8192  # 2.2e9 numbers
VOCABULARY = 129_280
LOGITS = 17_000  # rows, as many numbers


@pytest.fixture
def only(monkeypatch):
    """Run one program of every launch, the one at these places of the grid."""

    def at(*place):
        def set_grid_idx(self, x, y, z):
            self.grid_idx = tuple(a + b for a, b in zip((x, y, z), place, strict=True))

        monkeypatch.setattr(type(interpreter.interpreter_builder), "set_grid_idx", set_grid_idx)

    return at


@pytest.fixture
def huge(tmp_path):
    made = []

    def make(*shape, dtype=torch.bfloat16):
        size = torch.Size(shape).numel()
        path = tmp_path / f"{len(made)}"
        made.append(path)
        kept = torch.uint8 if dtype == torch.float8_e4m3fn else dtype
        with path.open("wb") as file:
            file.truncate(size * kept.itemsize)
        x = torch.from_file(str(path), shared=True, size=size, dtype=kept)
        return x.view(dtype).view(shape)

    yield make
    for path in made:
        path.unlink()


def equal(found, expected):
    return torch.equal(found.float(), expected.float())


def test_the_last_tiles_of_rows_and_of_columns(huge, only):
    x, q, qt = huge(M, K), huge(M, K, dtype=fp8.E4M3), huge(K, M, dtype=fp8.E4M3)
    scale, qt_scale = (huge(n, dtype=torch.float32) for n in (K // 128 * M, -(-M // 128) * K))
    rows = M % 128
    last = torch.randn(rows, 128).bfloat16()
    x[-rows:, -128:] = last
    expected, expected_scale = fp8.quantize_tiles(last.float())
    only(K // 128 - 1, M // 32, 0)
    height = M % 32
    quantize.tiles_kernel[(1, 1)](x, q, scale, M, K, POWER_OF_TWO=False)
    assert equal(q[-height:, -128:], expected[-height:])
    assert equal(scale[-height:], expected_scale[-height:, 0])
    only(K // 128 - 1, M // 128, 0)
    options = {"DEQUANTIZE": False, "ROWS": True, "POWER_OF_TWO": False}
    quantize.columns_kernel[(1, 1)](x, None, q, scale, qt, qt_scale, M, K, 0, 0, **options)
    assert equal(q[-rows:, -128:], expected) and equal(scale[-rows:], expected_scale[:, 0])
    expected, expected_scale = fp8.quantize_tiles(last.float().t().contiguous())
    assert equal(qt[-128:, -rows:], expected) and equal(qt_scale[-128:], expected_scale[:, 0])


def test_the_last_block_of_an_activation(huge, only):
    x, q = huge(M, 2 * K), huge(M, K, dtype=fp8.E4M3)
    scale = huge(K // 128 * M, dtype=torch.float32)
    height = 16
    last = torch.randn(height, 256)
    x[-height:, K - 128 : K], x[-height:, -128:] = last[:, :128], last[:, 128:]
    only(K // 128 - 1, M // 16 - 1, 0)
    options = {"DEQUANTIZE": False, "POWER_OF_TWO": False}
    swiglu.forward_kernel[(1, 1)](x, None, q, scale, M, K, 0, 0, **options)
    found = q[-height:, -128:].float() * scale[-height:, None]
    assert distance(found, swiglu.swiglu_reference(last.bfloat16().float())) < 0.05


def test_the_last_row_of_the_logits(huge, only):
    logits, losses = huge(LOGITS, VOCABULARY), torch.zeros(LOGITS)
    last = torch.randn(VOCABULARY).bfloat16()
    logits[-1] = last
    labels = torch.full((LOGITS,), VOCABULARY - 1)
    only(LOGITS - 1, 0, 0)
    options = {"WANTED": True, "BLOCK": cross_entropy.BLOCK}
    cross_entropy._softmax_gradient[(1,)](logits, labels, losses, VOCABULARY, **options)
    expected = last.float().softmax(0)
    assert losses[-1].item() == pytest.approx(-expected[-1].log().item(), rel=1e-5)
    expected[-1] -= 1
    assert distance(logits[-1], expected) < 0.01


def test_the_last_tile_of_a_product(huge, only):
    out = huge(LOGITS, VOCABULARY)
    a, b = torch.zeros(LOGITS, 128).to(fp8.E4M3), torch.zeros(VOCABULARY, 128).to(fp8.E4M3)
    x, w = torch.randn(8, 128), torch.randn(128, 128)
    a[-8:], b[-128:] = x.to(fp8.E4M3), w.to(fp8.E4M3)
    tiles = -(-LOGITS // 128), VOCABULARY // 128
    scales = torch.ones(1, LOGITS), torch.ones(tiles[1], 1)
    only(tiles[0] * tiles[1] - 1, 0, 0)
    product._product[(1,)](
        product.tensor_map(a), product.tensor_map(b), *scales, out, LOGITS, VOCABULARY, 128,
        BLOCKS=True, SMALL=False, TOGETHER=product.TOGETHER,
    )  # fmt: skip
    assert distance(out[-8:, -128:], a[-8:].float() @ b[-128:].float().t()) < 0.01


def test_the_gradient_of_the_last_expert(huge, only):
    experts, m, n = 256, 4096, 2176
    out = huge(experts, m, n)
    a, b = (torch.zeros(size, 128).to(fp8.E4M3) for size in (m, n))
    a[-128:], b[-128:] = (torch.randn(128, 128).to(fp8.E4M3) for _ in range(2))
    steps = torch.zeros(experts + 1, dtype=torch.int32)
    steps[-1] = 1
    only(m // 128 * (n // 128) - 1, experts - 1, 0)
    grouped._weight_gradients[(1, 1)](
        product.tensor_map(a), product.tensor_map(b), torch.ones(1, m), torch.ones(1, n), out,
        steps, m, n, BLOCKS=False, TOGETHER=product.TOGETHER,
    )  # fmt: skip
    assert distance(out[-1, -128:, -128:], a[-128:].float() @ b[-128:].float().t()) < 0.01


def test_the_last_row_that_comes_back_from_an_expert(huge):
    rows = huge(M, K)
    rows[-1], rows[5] = torch.randn(K).bfloat16(), torch.randn(K).bfloat16()
    position = torch.tensor([[M - 1, 5]], dtype=torch.int32)
    layout = permute.Plan(position, position[0, :0], position[0, :0], position[0, :0], M)
    assert distance(permute.combine(rows, layout)[0], rows[-1] + rows[5]) < 0.01
    grad = torch.randn(1, K).bfloat16()
    found = permute.gate_gradient(grad, rows, layout)
    assert distance(found[0], rows[[-1, 5]].float() @ grad[0].float()) < 1e-4
