"""Every kernel compiled for Hopper: no spilling, fits, reads wide, and no worse than the table."""

import pytest
import triton

from model.kernels.compile import compile_build
from model.kernels.resources import all_builds, measure, read_table, worse

BUILDS = all_builds()
VERSION, KEPT = read_table()


def test_the_table_lists_exactly_the_builds():
    assert len({build.name for build in BUILDS}) == len(BUILDS)
    assert {build.name for build in BUILDS} == KEPT.keys()


@pytest.mark.slow
@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.name)
def test_a_build_is_fit_for_the_chip(build):
    compiled = compile_build(build)
    assert compiled.stack == 0 and compiled.local_accesses == 0
    assert compiled.blocks >= 1
    assert compiled.loads.get(128, 0) or compiled.async_copies, compiled.loads
    if triton.__version__ != VERSION:
        pytest.skip(f"the table was made with triton {VERSION}, this is {triton.__version__}")
    assert worse(measure(compiled), KEPT[build.name]) == []
