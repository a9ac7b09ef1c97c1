"""What the compiler made of the FP8 products: promoted after every 128, nothing spilled."""

import re

import pytest

from model.kernels import grouped, product
from model.kernels.compile import compile_build

BUILDS = product.BUILDS + grouped.BUILDS
WGMMA = re.compile(r"wgmma\.mma_async\.sync\.aligned\.m64n(\d+)k32\.f32\.e4m3\.e4m3[^;]*;")


@pytest.mark.slow
@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.name)
def test_every_128_products_are_promoted_to_float32(build):
    compiled = compile_build(build)
    assert ".target sm_90a" in compiled.ptx
    # Σ over 128 columns is four products of 32, for each 64 rows of a warp group.
    rows = build.constants["BLOCK_M"] // 64 // (build.num_warps // 4)
    assert compiled.count("QGMMA") == 4 * rows
    width = build.constants["BLOCK_N"]
    assert compiled.count(f"QGMMA.64x{width}x32.F32.E4M3.E4M3") == 4 * rows
    products = list(WGMMA.finditer(compiled.ptx))
    assert len(products) == 4 * rows and {int(m[1]) for m in products} == {width}
    first = products[0].start()
    last = products[-1].end()
    assert "wgmma.fence" in compiled.ptx[:first]
    after = compiled.ptx[last:]
    wait = after.index("wgmma.wait_group.sync.aligned 0")
    assert "fma" not in after[:wait] and "add.f32" not in after[:wait]
    promotions = len(re.findall(r"fma\.rn\.f32|add(?:\.rn)?\.f32", after[wait:]))
    assert promotions >= build.constants["BLOCK_M"] * width // (32 * build.num_warps)
    assert ".local" not in compiled.ptx and compiled.local_accesses == compiled.stack == 0


@pytest.mark.slow
@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.name)
def test_of_four_products_only_the_first_forgets_what_was_there(build):
    sass = compile_build(build).sass
    # QGMMA R24, gdesc[UR16], RZ, !UPT starts anew; the others name their registers again.
    lines = re.findall(r"QGMMA\.\S+ (R\d+), gdesc\[\w+\], (\w+)", sass)
    fresh = [source == "RZ" for _, source in lines]
    assert fresh == [True, False, False, False] * (len(lines) // 4)
    assert all(source in ("RZ", target) for target, source in lines)


@pytest.mark.slow
@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.name)
def test_tiles_come_by_tensor_copies_ahead_of_their_use(build):
    compiled = compile_build(build)
    # Two tiles a step: STAGES - 1 steps ahead of the loop and one in it.
    assert compiled.count("UTMALDG.2D") == 2 * build.num_stages
    # Two scales a step, by copies that nothing waits for.
    assert compiled.count("LDGSTS") == 2 * build.num_stages
    assert set(compiled.stores) == {128}
