"""What the ahead-of-time compiler reports is what is in the machine code."""

import pytest
import triton
import triton.language as tl

from model.kernels.compile import blocks_on_multiprocessor, compile_for_hopper
from model.kernels.resources import Resources, measure, read_table, worse, write_table


@triton.jit
def _copy(x, y, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + at, tl.load(x + at, mask=at < n), mask=at < n)


@triton.jit
def _product(a, b, c, k, SIDE: tl.constexpr, STEP: tl.constexpr):
    rows, inner = tl.arange(0, SIDE), tl.arange(0, STEP)
    total = tl.zeros((SIDE, SIDE), tl.float32)
    for start in range(0, k, STEP):
        x = tl.load(a + rows[:, None] * k + start + inner[None, :])
        y = tl.load(b + rows[None, :] * k + start + inner[:, None])
        total = tl.dot(x, y, total)
    tl.store(c + rows[:, None] * SIDE + rows[None, :], total)


FLOATS = {"x": "*fp32:16", "y": "*fp32:16", "n": "i32:16"}
PRODUCT = {"a": "*fp8e4nv:16", "b": "*fp8e4nv:16", "c": "*fp32:16", "k": "i32:16"}


def test_wide_loads_are_seen_and_so_are_narrow_ones():
    wide = compile_for_hopper(_copy, FLOATS, {"BLOCK": 512})
    assert wide.loads == {128: 1} and wide.stores == {128: 1}
    unaligned = {name: kind.removesuffix(":16") for name, kind in FLOATS.items()}
    narrow = compile_for_hopper(_copy, unaligned, {"BLOCK": 512})
    assert narrow.loads == {32: 4} and narrow.stores == {32: 4}
    assert wide.stack == wide.local_accesses == wide.async_copies == 0


@pytest.mark.slow
def test_a_pipelined_fp8_product_shows_its_instructions_and_a_greedy_one_its_spills():
    good = compile_for_hopper(_product, PRODUCT, {"SIDE": 64, "STEP": 128}, 4, 3)
    assert good.count("QGMMA.64x64x32.F32.E4M3.E4M3") >= 4
    assert good.async_copies > 0 and good.shared > 0 and good.stack == 0
    greedy = compile_for_hopper(_product, PRODUCT, {"SIDE": 256, "STEP": 64}, 4, 3)
    assert greedy.registers == 255 and greedy.stack > 0 and greedy.local_accesses > 0


def test_a_signature_must_name_every_argument_once():
    with pytest.raises(ValueError, match="argument BLOCK has neither"):
        compile_for_hopper(_copy, FLOATS, {})
    with pytest.raises(ValueError, match="argument n has both"):
        compile_for_hopper(_copy, FLOATS, {"BLOCK": 512, "n": 3})


@pytest.mark.parametrize(
    ("registers", "shared", "warps", "blocks"),
    [
        (32, 0, 4, 16),  # 64 warps
        (16, 0, 1, 32),  # 32 blocks
        (255, 0, 4, 2),  # 65,536 registers
        (33, 0, 8, 6),  # 33 registers are paid as 40
        (32, 100 * 1024, 4, 2),  # 228 KiB
        (32, 227 * 1024, 4, 1),
        (32, 227 * 1024 + 1, 4, 0),
        (255, 0, 16, 0),
    ],
)
def test_blocks_on_a_multiprocessor(registers, shared, warps, blocks):
    assert blocks_on_multiprocessor(registers, shared, warps) == blocks


def test_the_table_comes_back_as_written_and_says_what_got_worse(tmp_path):
    found = measure(compile_for_hopper(_copy, FLOATS, {"BLOCK": 512}))
    write_table({"copy/BLOCK=512": found}, tmp_path / "table.tsv")
    assert read_table(tmp_path / "table.tsv") == (triton.__version__, {"copy/BLOCK=512": found})
    better = Resources(*(max(0, n - 1) for n in vars(found).values()))
    assert f"registers {better.registers} -> {found.registers}" in worse(found, better)
    assert worse(found, found) == []
