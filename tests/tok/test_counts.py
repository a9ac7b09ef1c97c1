"""Word counts: merged by key, the same however the corpus is cut."""

import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from tok import count_words, merge_counts, read_counts, weigh

DOCUMENTS = st.lists(
    st.tuples(st.text("ab c1.\n漢", max_size=30), st.sampled_from(["x", "y"])), max_size=12
)


@settings(deadline=None)
@given(DOCUMENTS, st.integers(0, 12))
def test_counting_in_parts_gives_the_counts_of_the_whole(documents, cut):
    def count(part):
        return count_words([t for t, _ in part], [g for _, g in part], "multilingual")

    whole = count(documents)
    parts = merge_counts([count(documents[cut:]), count(documents[:cut])])
    assert parts.equals(whole)
    words, numbers = (whole[column].to_pylist() for column in ("word", "count"))
    counted = sum(len(word) * n for word, n in zip(words, numbers, strict=True))
    assert counted == sum(len(text.encode()) for text, _ in documents)


def test_weights_scale_groups_and_drop_what_rounds_to_nothing():
    counts = count_words(["one one two", "one three"], ["x", "y"], "deepseek-v3")
    plain = dict(zip(*weigh(counts).to_pydict().values(), strict=True))
    assert plain == {b"one": 2, b" one": 1, b" two": 1, b" three": 1}
    weighted = dict(zip(*weigh(counts, {"y": 0.4, "x": 10}).to_pydict().values(), strict=True))
    assert weighted == {b"one": 10, b" one": 10, b" two": 10}


def test_counts_are_read_back_from_parquet(tmp_path):
    tables = [count_words([text], ["x"], "deepseek-v3") for text in ("a b", "b c")]
    for i, table in enumerate(tables):
        pq.write_table(table, tmp_path / f"{i}.parquet")
    assert read_counts(sorted(tmp_path.glob("*.parquet"))).equals(merge_counts(tables))
