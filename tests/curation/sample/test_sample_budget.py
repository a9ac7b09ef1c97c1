"""Sharing bytes among sources: bounded, proportional, lazy."""

from hypothesis import given
from hypothesis import strategies as st

from curation.sample.budget import fill

sizes = st.lists(st.integers(1, 50), max_size=30)


def rows(name, lengths):
    return [{"source": name, "text": "x" * length} for length in lengths]


def taken(filled, name):
    return sum(len(row["text"]) for row in filled if row["source"] == name)


@given(st.lists(st.tuples(st.integers(1, 9), sizes), min_size=1, max_size=5), st.integers(0, 900))
def test_never_exceeds_the_budget_and_keeps_each_source_in_order(sources, budget):
    filled = list(fill([(w, rows(k, s)) for k, (w, s) in enumerate(sources)], budget))
    assert sum(len(row["text"]) for row in filled) <= budget
    for k, (_, lengths) in enumerate(sources):
        got = [len(row["text"]) for row in filled if row["source"] == k]
        assert got == lengths[: len(got)]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(100, 1000))
def test_sources_with_plenty_share_by_weight(one, other, budget):
    plenty = [1] * 2000
    filled = list(fill([(one, rows("a", plenty)), (other, rows("b", plenty))], budget))
    assert abs(taken(filled, "a") - budget * one / (one + other)) <= 1
    assert taken(filled, "a") + taken(filled, "b") == budget


def test_what_a_poor_source_leaves_goes_to_those_after_it():
    filled = list(fill([(1, rows("poor", [1] * 10)), (1, rows("rich", [1] * 500))], 100))
    assert taken(filled, "rich") == 90


def test_bytes_count_not_characters():
    source = [{"source": "a", "text": "ж"}] * 100
    assert len(list(fill([(1, source)], 100))) == 50


def test_a_source_is_not_read_past_its_share():
    def endless():
        for k in range(12):
            assert k < 11, "read two documents past the share"
            yield {"source": "a", "text": "x" * 10}

    assert len(list(fill([(1, endless())], 100))) == 10
