"""Word counts: merged by key, the same however the corpus is cut."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tok import (
    COUNTS_SCHEMA,
    WordCounter,
    count_words,
    merge_counts,
    read_counts,
    temper,
    weigh,
)
from tok.counts import merge_batches

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


@settings(deadline=None)
@given(DOCUMENTS, st.integers(1, 3), st.integers(0, 12))
def test_spilling_and_threads_change_nothing(documents, threads, cut):
    texts, groups = [t for t, _ in documents], [g for _, g in documents]
    counter = WordCounter("gpt2", threads=threads, memory=0)
    counter.add(texts[:cut], groups[:cut])
    counter.add(texts[cut:], groups[cut:])
    assert len(counter.spilled) == any(texts[:cut]) + any(texts[cut:])
    assert counter.table().equals(count_words(texts, groups, "gpt2"))


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy")), max_size=9)))
def test_a_merge_of_sorted_streams_is_their_sum(runs):
    tables = [
        merge_counts(
            [
                pa.table(
                    [
                        pa.array([word.encode() for word, _ in run], pa.large_binary()),
                        pa.array([group for _, group in run], pa.string()),
                        pa.array([1] * len(run), pa.int64()),
                    ],
                    schema=COUNTS_SCHEMA,
                )
            ]
        )
        for run in runs
    ]
    # Batches of one row: every word that goes on in the next batch is met.
    streams = [iter(table.to_batches(max_chunksize=1)) for table in tables]
    assert pa.Table.from_batches(merge_batches(streams), COUNTS_SCHEMA).equals(merge_counts(tables))


def test_words_of_any_length_are_counted():
    texts = ["a" * n for n in (1, 7, 8, 15, 16, 17, 300, 70_000)] * 2
    counts = weigh(count_words(texts, "all", "gpt2"))
    assert counts["count"].to_pylist() == [2] * 8
    assert counts["word"].to_pylist() == sorted({text.encode() for text in texts})


def test_counting_takes_text_in_any_form_of_arrow():
    texts = ["ein Wort", "", "zwei  Wörter\n", "漢字かな"]
    want = count_words(texts, "x", "multilingual")
    array = pa.array([None, *texts, None, "left out"])
    forms = [
        array.slice(1, 5),
        array.cast(pa.large_string()).slice(1, 5),
        pa.chunked_array([array.slice(1, 2), array.slice(3, 2)]),
        array.cast(pa.binary()).slice(1, 4),
        [text.encode() for text in texts],
    ]
    for form in forms:
        assert count_words(form, "x", "multilingual").equals(want)
    with pytest.raises(TypeError, match="int64"):
        count_words(pa.array([1]), "x", "multilingual")
    with pytest.raises(ValueError, match="1 groups"):
        count_words(texts, ["x"], "multilingual")


def test_a_file_that_holds_no_counts_is_refused(tmp_path):
    path = tmp_path / "counts.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"counts\.parquet: .*; expected a table of word counts"):
        read_counts([path])
    pq.write_table(pa.table({"word": [b"a"]}), path)
    with pytest.raises(ValueError, match="no column 'group'"):
        read_counts([path])


def test_a_temperature_flattens_the_shares_of_groups():
    counts = count_words(["a" * 64, "b"], ["x", "y"], "gpt2")
    assert temper(counts, 1) == {"x": 1, "y": 1}
    assert temper(counts, 2) == {"x": 1, "y": 8}
    assert temper(counts, 1e9)["y"] == pytest.approx(64)
    with pytest.raises(ValueError, match="positive"):
        temper(counts, 0)


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
