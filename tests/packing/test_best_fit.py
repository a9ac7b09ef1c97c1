"""Packing against the textbook algorithm, one piece at a time."""

import bisect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packing.best_fit import best_fit
from packing.cutting import Spans, cut, cut_many


def slow_best_fit(lengths, length):
    """Best-fit decreasing as the book says: how full each sequence ends up."""
    rooms = []  # kept sorted
    for size in sorted(lengths, reverse=True):
        i = bisect.bisect_left(rooms, size)
        room = rooms.pop(i) if i < len(rooms) else length
        bisect.insort(rooms, room - size)
    return sorted(rooms)


@settings(deadline=None, max_examples=300)
@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(1, n)))))
def test_all_equal_lengths_at_once_is_one_piece_at_a_time(case):
    length, lengths = case
    bins, count = best_fit(np.array(lengths, np.int64), length)
    used = np.bincount(bins, weights=lengths, minlength=count) if lengths else np.zeros(0)
    assert sorted((length - used).tolist()) == slow_best_fit(lengths, length)


def test_a_real_length_distribution_fills_the_sequences():
    lengths = np.random.default_rng(0).lognormal(5.5, 1.0, 50_000).astype(int).clip(1, 512)
    bins, count = best_fit(lengths, 512)
    assert lengths.sum() / (count * 512) > 0.999
    assert set(bins.tolist()) == set(range(count))


def test_lengths_that_do_not_fit_are_refused():
    for bad in (0, 11):
        with pytest.raises(ValueError, match="1 to 10"):
            best_fit(np.array([3, bad]), 10)


SPANS = st.lists(st.tuples(st.integers(0, 90), st.integers(1, 10)), max_size=3)


@given(st.integers(0, 100), st.integers(10, 30), SPANS)
def test_cutting_covers_the_document_and_spares_atomic_spans(tokens, length, spans):
    # Keep what a real document could have: spans inside it, in order, apart from each other.
    kept, end = [], 0
    for start, size in sorted(spans):
        if start >= end and start + size <= tokens:
            kept.append((start, size))
            end = start + size
    pieces = cut(tokens, length, kept)
    place = 0
    for start, size in pieces:
        assert start == place and 0 < size <= length
        place += size
        for span_start, span_size in kept:
            assert not span_start < place < span_start + span_size
    assert place == tokens


def test_a_document_that_fits_is_never_cut_and_a_longer_one_gives_full_sequences_and_a_rest():
    assert cut(512, 512) == [(0, 512)]
    assert cut(1100, 512) == [(0, 512), (512, 512), (1024, 76)]


def test_an_atomic_span_longer_than_a_sequence_is_refused_with_its_length():
    with pytest.raises(ValueError, match="600 tokens"):
        cut(700, 512, [(10, 600)])


@st.composite
def cuttings(draw):
    """Documents with a first and a last token and atomic spans, and a length."""
    length = draw(st.integers(10, 30))
    documents = []
    for _ in range(draw(st.integers(0, 8))):
        tokens = draw(st.integers(0, 120))
        spans, end = [], 0
        for start, size in sorted(draw(SPANS)):
            if start >= end and start + size <= tokens:
                spans.append((start, size))
                end = start + size
        begin = draw(st.integers(0, tokens))
        if any(start < begin < start + size for start, size in spans):
            begin = 0
        documents.append((begin, tokens, spans))
    return length, documents


@settings(deadline=None, max_examples=300)
@given(cuttings())
def test_many_documents_are_cut_as_each_is_alone(case):
    length, documents = case
    expected = [
        (k, begin + start, size)
        for k, (begin, tokens, spans) in enumerate(documents)
        for start, size in cut(tokens - begin, length, [(s - begin, n) for s, n in spans])
    ]
    flat = [(k, s, n) for k, (_, _, spans) in enumerate(documents) for s, n in spans]
    spans = Spans(*np.array(flat, np.int64).reshape(-1, 3).T)
    begins, ends, _ = zip(*documents, strict=True) if documents else ((), (), ())
    starts, stops = np.array(begins, np.int64), np.array(ends, np.int64)
    got = cut_many(starts, stops, length, spans)
    assert list(zip(*(column.tolist() for column in got), strict=True)) == expected
