"""A launch makes a constant of a size of 1, and promises nothing of one not divisible by 16."""

import dataclasses

import pytest

from model.kernels import cross_entropy, decode, grouped, product
from model.kernels.compile import compile_build

ALL = [build for m in (cross_entropy, decode, grouped, product) for build in m.BUILDS]
# The first build of each name.
BUILDS = list({build.name.split("/")[0]: build for build in reversed(ALL)}.values())


def sizes(build):
    return [name for name, kind in build.signature.items() if kind.startswith("i32")]


@pytest.mark.slow
@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.name)
def test_sizes_of_one(build):
    ones = sizes(build)
    rest = {name: kind for name, kind in build.signature.items() if name not in ones}
    constants = {**build.constants, **dict.fromkeys(ones, 1)}
    assert compile_build(dataclasses.replace(build, signature=rest, constants=constants)).stack == 0


@pytest.mark.slow
@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.name)
def test_sizes_that_are_multiples_of_nothing(build):
    odd = {**build.signature, **dict.fromkeys(sizes(build), "i32")}
    assert compile_build(dataclasses.replace(build, signature=odd)).stack == 0
