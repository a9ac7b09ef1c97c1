"""FP8 products over experts in the interpreter, against float64 and the loop over experts."""

import pytest
import torch
from operands import KINDS, distance, numbers, rounded

from model.kernels.grouped import (
    grouped_product,
    grouped_product_reference,
    grouped_weight_gradient,
    grouped_weight_gradient_reference,
)

CLOSE = 5e-7
TILE = 128
COUNTS = ([5, 0, 130, 1], [0, 0, 0], [1, 1, 1, 1, 1], [300], [0, 128, 128, 0, 127])


def experts(kind: str, count: int, n: int, k: int):
    q, scale, meant = zip(
        *(rounded(numbers(kind, n, k), "block") for _ in range(count)), strict=True
    )
    return (
        torch.stack([x.view(torch.uint8) for x in q]).view(torch.float8_e4m3fn),
        torch.stack(scale),
        torch.stack(meant),
    )


def layout(counts: list[int], capacity: int | None = None):
    """`starts` and `counts` as the kernel wants them: contiguous, or with room for each expert."""
    size = torch.tensor(counts, dtype=torch.int32)
    if capacity is None:
        return (size.cumsum(0) - size).int(), size
    return torch.arange(len(counts), dtype=torch.int32) * capacity, size


@pytest.mark.parametrize("kind", KINDS)
def test_rows_meet_the_matrix_of_their_expert(kind):
    counts = [40, 0, 131, 1]
    a, a_scale, a_meant = rounded(numbers(kind, sum(counts), 200), "tile")
    b, b_scale, b_meant = experts(kind, 4, 150, 200)
    found = grouped_product(a, a_scale, b, b_scale, *layout(counts))
    pieces = zip(a_meant.split(counts), b_meant, strict=True)
    assert distance(found, torch.cat([x @ w.t() for x, w in pieces])) < CLOSE


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_groups_may_be_empty_or_of_one_row(counts):
    a, a_scale, _ = rounded(numbers("normal", sum(counts), 128), "tile")
    b, b_scale, _ = experts("normal", len(counts), 128, 128)
    found = grouped_product(a, a_scale, b, b_scale, *layout(counts))
    expected = grouped_product_reference(a, a_scale, b, b_scale, *layout(counts))
    assert found.shape == (sum(counts), 128) and distance(found, expected) < CLOSE


@pytest.mark.parametrize("counts", [[3, 0, 1, 20], [20, 20, 20, 20], [0, 0, 0, 0]], ids=str)
def test_with_room_for_each_expert_only_filled_rows_are_computed(counts):
    capacity = 20
    a, a_scale, a_meant = rounded(numbers("outliers", 4 * capacity, 256), "tile")
    b, b_scale, b_meant = experts("normal", 4, 70, 256)
    found = grouped_product(a, a_scale, b, b_scale, *layout(counts, capacity))
    for e, count in enumerate(counts):
        rows = slice(e * capacity, e * capacity + count)
        unused = slice(e * capacity + count, (e + 1) * capacity)
        assert distance(found[rows], a_meant[rows] @ b_meant[e].t()) < CLOSE
        assert found[unused].isnan().all()


def columns(kind: str, width: int, counts: list[int]):
    """A transposed operand [width, p], every group filled up with zeros to a multiple of 128."""
    pieces = [
        torch.cat([numbers(kind, width, n), torch.zeros(width, -n % TILE)], 1)
        if n
        else torch.empty(width, 0)
        for n in counts
    ]
    return rounded(torch.cat(pieces, 1), "tile")


def steps_of(counts: list[int]) -> torch.Tensor:
    return torch.tensor([0, *(-(-n // TILE) for n in counts)], dtype=torch.int32).cumsum(0).int()


@pytest.mark.parametrize("kind", KINDS)
def test_the_weight_gradient_sums_over_the_rows_of_each_expert(kind):
    counts = [200, 0, 1]
    a, a_scale, a_meant = columns(kind, 150, counts)
    b, b_scale, b_meant = columns(kind, 70, counts)
    found = grouped_weight_gradient(a, a_scale, b, b_scale, steps_of(counts))
    sizes = [256, 0, 128]
    pieces = zip(a_meant.split(sizes, 1), b_meant.split(sizes, 1), strict=True)
    assert distance(found, torch.stack([x @ y.t() for x, y in pieces])) < CLOSE


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_an_expert_without_rows_has_a_gradient_of_zeros(counts):
    a, a_scale, _ = columns("normal", 130, counts)
    b, b_scale, _ = columns("normal", 128, counts)
    steps = steps_of(counts)
    found = grouped_weight_gradient(a, a_scale, b, b_scale, steps)
    expected = grouped_weight_gradient_reference(a, a_scale, b, b_scale, steps)
    assert distance(found, expected) < CLOSE
    for e, n in enumerate(counts):
        assert n or bool((found[e] == 0).all())


def test_operands_of_other_shapes_are_refused():
    a, a_scale, _ = rounded(numbers("normal", 10, 128), "tile")
    b, b_scale, _ = experts("normal", 2, 130, 128)
    with pytest.raises(ValueError, match=r"b_scale is \[2, 1, 1\], expected \[2, 2, 1\]"):
        grouped_product(a, a_scale, b, b_scale[:, :1], *layout([4, 6]))
    with pytest.raises(ValueError, match=r"counts is \[1\], expected \[2\]"):
        grouped_product(a, a_scale, b, b_scale, layout([4, 6])[0], layout([4])[1])
