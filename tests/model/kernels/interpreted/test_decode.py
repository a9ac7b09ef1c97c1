"""MLA decoding in the interpreter, against float64 and plain PyTorch."""

import pytest
import torch
from operands import distance

from model.kernels.decode import attend_to_latents, attend_to_latents_reference

CLOSE = 2e-6


def remembered(lengths: list[int], capacity: int, width: int):
    """A contiguous cache, undefined behind each sequence's length, and the lengths."""
    cache = torch.randn(len(lengths), capacity, width)
    for sequence, length in zip(cache, lengths, strict=True):
        sequence[length:] = float("nan")
    return cache, torch.tensor(lengths, dtype=torch.int32)


def in_pages(cache: torch.Tensor, page: int):
    """The same tokens in shuffled pages, between pages of others, and the table."""
    b, capacity, width = cache.shape
    each = capacity // page
    order = torch.randperm(2 * b * each)[: b * each]
    pages = torch.full((2 * b * each, page, width), float("nan"))
    pages[order] = cache.reshape(b * each, page, width)
    return pages, order.view(b, each).int()


def exact(q, cache, lengths, latent, scale):
    return attend_to_latents_reference(q.double(), cache.double(), lengths, latent, scale)


@pytest.mark.parametrize(
    ("new", "heads", "latent", "rotary"),
    [(1, 3, 24, 8), (2, 16, 64, 16), (1, 128, 512, 64), (2, 20, 300, 6), (1, 1, 1, 2)],
)
def test_new_tokens_see_what_is_remembered_and_each_other(new, heads, latent, rotary):
    cache, lengths = remembered([new, 70, 129], 130, latent + rotary)
    q = torch.randn(3, new, heads, latent + rotary)
    found = attend_to_latents(q, cache, lengths, latent, 0.3)
    assert found.shape == (3, new, heads, latent)
    assert distance(found, exact(q, cache, lengths, latent, 0.3)) < CLOSE


@pytest.mark.parametrize("splits", [1, 2, 3, 7, 20])
def test_splits_are_merged_to_the_same(splits):
    cache, lengths = remembered([1, 33, 600], 640, 40)
    q = torch.randn(3, 1, 5, 40)
    found = attend_to_latents(q, cache, lengths, 32, 0.2, splits=splits)
    assert distance(found, exact(q, cache, lengths, 32, 0.2)) < CLOSE


@pytest.mark.parametrize("page", [64, 128])
def test_pages_in_any_order_hold_the_same_tokens(page):
    cache, lengths = remembered([2, 64, 200, 256], 256, 40)
    q = torch.randn(4, 2, 5, 40)
    pages, table = in_pages(cache, page)
    found = attend_to_latents(q, pages, lengths, 32, 0.2, table, splits=2)
    assert distance(found, exact(q, cache, lengths, 32, 0.2)) < CLOSE


def test_large_scores_do_not_overflow_and_equal_ones_share():
    cache, lengths = remembered([100, 100], 128, 24)
    cache[0, :100] *= 1e4
    cache[1, :100] = cache[1, 0]
    q = torch.randn(2, 1, 4, 24)
    found = attend_to_latents(q, cache, lengths, 16, 1.0, splits=2)
    assert distance(found, exact(q, cache, lengths, 16, 1.0)) < CLOSE


def test_a_sequence_of_nothing_gives_zeros():
    cache, lengths = remembered([0, 5], 64, 24)
    found = attend_to_latents(torch.randn(2, 1, 4, 24), cache, lengths, 16, 1.0)
    assert bool((found[0] == 0).all()) and bool(found[1].isfinite().all())


def test_odd_pages_and_latents_are_refused():
    q = torch.randn(1, 1, 1, 600)
    lengths = torch.tensor([3], dtype=torch.int32)
    with pytest.raises(ValueError, match="expected at most 512"):
        attend_to_latents(q, torch.randn(1, 5, 600), lengths, 520, 1.0)
    table = torch.zeros(1, 2, dtype=torch.int32)
    with pytest.raises(ValueError, match="pages of 60 tokens"):
        attend_to_latents(q, torch.randn(1, 60, 600), lengths, 500, 1.0, table)
