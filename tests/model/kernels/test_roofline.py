"""Floors: the arithmetic by hand, the operations of DeepSeek's trace, and no build unaccounted."""

import pytest

from model.kernels.resources import Resources, read_table
from model.kernels.roofline import (
    CHIPS,
    MODELS,
    RANKS,
    Work,
    best_build,
    floor,
    planner_check,
    works,
)

H100, H800, H200 = CHIPS


def test_the_slowest_side_sets_the_floor():
    product = Work("product", "", 1979e9, 3.35e9, 0, "none")
    assert floor(product, H100, None).seconds == pytest.approx(1e-3)
    assert floor(Work("", "", 2 * 1979e9, 3.35e9, 0, ""), H100, None).side == "tensor cores"
    copy = Work("copy", "", 0, 4.8e9, 0, "none")
    assert floor(copy, H200, None).seconds == pytest.approx(1e-3)
    assert floor(copy, H100, None).seconds == pytest.approx(4.8 / 3.35e3)
    assert floor(copy, H800, None) == floor(copy, H100, None)
    build = ("k/BLOCK=64/w4", Resources(32, 0, 0, 4, 16, 335, 0, 0, 4, 0))
    # 1,000,000 programs of 128 threads with 335 instructions over 33.5e12 a second.
    busy = Work("busy", "", 0, 1.0, 0, "k", units=64e6)
    assert floor(busy, H100, build).seconds == pytest.approx(128e6 * 335 / 33.5e12)
    assert floor(busy, H100, build).side == "instructions"


def test_of_several_builds_the_quickest_is_shown():
    slow, quick = (Resources(32, 0, 0, 4, 16, n, 0, 0, 4, 0) for n in (900, 300))
    table = {"k/BLOCK=64/w4": slow, "k/BLOCK=64/w8": quick, "kk/BLOCK=64/w1": quick}
    work = Work("k", "", 0, 1.0, 0, "k", units=64e6)
    assert best_build(work, table) == ("k/BLOCK=64/w8", quick)
    assert best_build(Work("x", "", 0, 1.0, 0, "x"), table) is None


def test_products_of_a_layer_are_six_times_its_active_parameters():
    config = MODELS["v3-671b"]
    counted = sum(w.operations for w in works(config, 128, 64) if w.part == "products")
    d, f = config.hidden_size, config.moe_intermediate_size
    heads, q, kv = 128, config.q_lora_rank, config.kv_lora_rank
    attention = d * q + q * heads * 192 + d * (kv + 64) + kv * heads * 256 + heads * 128 * d
    assert counted == 6 * 128 * (attention + 9 * 3 * d * f)


def test_the_trace_is_predicted_in_operations_and_never_beaten():
    tflop, checks = planner_check(MODELS["v3-671b"])
    assert tflop == pytest.approx(57.4, abs=0.1)
    assert all(0 < check.predicted < check.measured for check in checks)


@pytest.mark.parametrize("name", MODELS)
def test_every_kernel_that_is_named_and_kept_has_work(name):
    table = read_table()[1]
    found = works(MODELS[name], 4096, RANKS.get(name, 1))
    assert all(w.moved > 0 and w.saved >= 0 and w.operations >= 0 for w in found)
    assert len({(w.kernel, w.shape) for w in found}) == len(found)
    cast = [w for w in found if w.part == "casts" and w.builds != "-"]
    assert cast and all(best_build(w, table) is not None for w in cast)
