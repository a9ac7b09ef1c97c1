"""Substring deduplication against its definition, counted out in Python."""

import os
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curation import _native
from curation.document import make_batch
from curation.substrings import SubstringDedup, keep

DATA = Path(__file__).parents[2].parent / "shared" / "data"
FLAGS = _native.characters()[0]
MARK, WORD, SPACE, CONTROL, UNSPACED = (1 << bit for bit in (1, 3, 4, 7, 9))
MEMORY = 1 << 24


# ---- the slow twin ----


def tokens_of(text: str) -> list[tuple[str, int, int, int]]:
    """(token, quarters of a word, begin, end in bytes), by the definition."""
    found: list[list] = []
    last, at = None, 0  # what the token so far goes on with
    for char in text:
        flags, size = int(FLAGS[ord(char)]), len(char.encode())
        if flags & MARK and last:
            kind, units = last, 0
        elif not flags or flags & (SPACE | CONTROL):
            kind = None
        elif flags & MARK or (flags & WORD and not flags & UNSPACED):
            kind, units = "word", 4
        elif flags & WORD:
            point = ord(char)
            kind, units = "letter", 1 if point < 0x2000 or 0xA9E0 <= point < 0xAA80 else 2
        else:
            kind, units = char, 4
        if kind and kind == last and (kind != "letter" or flags & MARK):
            found[-1][0] += char
            found[-1][3] = at + size
        elif kind:
            found.append([char, units, at, at + size])
        last, at = kind, at + size
    return [tuple(token) for token in found]


def windows_of(found, tokens: int):
    """The shortest runs that weigh `tokens` words: (their tokens, begin, end in tokens)."""
    end = weight = 0
    for begin in range(len(found)):
        while weight < 4 * tokens and end < len(found):
            weight += found[end][1]
            end += 1
        if weight < 4 * tokens:
            return
        yield tuple(token[0] for token in found[begin:end]), begin, end
        weight -= found[begin][1]


def slow_cuts(texts, step: SubstringDedup) -> list[tuple[int, int, int]]:
    """What is to be cut, by a dictionary of all windows."""
    split = [tokens_of(text) for text in texts]
    places: dict[tuple, list] = {}
    for row, found in enumerate(split):
        for window, begin, end in windows_of(found, step.tokens):
            places.setdefault(window, []).append((row, found[begin][2], found[end - 1][3]))
    cuts = []
    for (first_row, first_begin, first_end), *others in places.values():
        if others and not step.keep_first:
            cuts.append((first_row, first_begin, first_end))
        for row, begin, end in others:
            if step.keep_first and row == first_row and begin < first_end:
                begin = first_end
            cuts.append((row, begin, end))
    joined: list[list[int]] = []
    for row, begin, end in sorted(cuts):
        if joined and joined[-1][0] == row and begin <= joined[-1][2]:
            joined[-1][2] = max(end, joined[-1][2])
        else:
            joined.append([row, begin, end])
    return [tuple(cut) for cut in joined]


def suffix_array_repeats(texts, tokens: int) -> set[tuple[int, int]]:
    """(row, token) of all tokens in a run of `tokens` that is there twice, as Lee et al. find it."""
    joined, where = [], []
    for row, text in enumerate(texts):
        for place, token in enumerate(tokens_of(text)):
            joined.append(token[0])
            where.append((row, place))
        joined.append(f"\x00{row}")  # is in no other suffix
        where.append(None)
    order = sorted(range(len(joined)), key=lambda i: joined[i:])
    repeated = set()
    for a, b in pairwise(order):
        common = 0
        while max(a, b) + common < len(joined) and joined[a + common] == joined[b + common]:
            common += 1
        if common >= tokens:
            repeated |= {where[i + k] for i in (a, b) for k in range(common)}
    return repeated


# ---- running a round ----


def batch_of(texts, **columns):
    columns = {"source": "s", "domain": "web"} | columns
    return make_batch({"text": text, "uri": str(i)} | columns for i, text in enumerate(texts))


def write_signed(folder: Path, step, texts, ends=(), **columns) -> list[Path]:
    """Sign texts, in files that end at `ends`."""
    paths = []
    for number, (a, b) in enumerate(pairwise([0, *sorted(ends), len(texts)])):
        paths.append(folder / f"signed-{number}.parquet")
        table = step.sign(batch_of(texts[a:b], **columns))
        pq.write_table(table, paths[-1], compression="zstd", row_group_size=3)
    return paths


def run(folder: Path, step, texts, ends=(), memory=MEMORY, **columns) -> list[tuple]:
    paths = write_signed(folder, step, texts, ends, **columns)
    step.merge(paths, folder, memory)
    cuts = pq.read_table(folder / "decisions.parquet")
    return list(zip(*(cuts[name].to_pylist() for name in ("row", "start", "end")), strict=True))


def dedup(folder: Path, step, texts, **columns) -> pa.RecordBatch:
    run(folder, step, texts, **columns)
    return step.apply(batch_of(texts, **columns), folder / "decisions.parquet", 0)


def prose(rng, count) -> str:
    return " ".join(f"w{rng.randrange(10**9)}" for _ in range(count))


# Few different words, so that everything repeats; scripts, marks, breaks and invisible characters.
pieces = st.sampled_from(
    ["a", "b", "a ", "b ", " ", "\n\n", "-", "--", ".", "的", "国", "ก", "ำ", "ก็", "é", "e\u0301"]
    + ["\u0301", "\u200c", "\x00", "_", "1", "語", "\U0001f600", "\u200d", "\ufffd", "ꧠ", "가"]
)
short_texts = st.lists(pieces, max_size=40).map("".join)
repetitive = st.lists(
    st.one_of(short_texts, st.sampled_from(["a b c d e f", "a " * 30, "的" * 40, "ab-" * 20])),
    max_size=6,
)


@settings(max_examples=300)
@given(short_texts)
def test_tokens_are_those_of_the_definition(text):
    hashes, begins, ends, units = _native.split_tokens(text.encode())
    slow = tokens_of(text)
    assert list(zip(units.tolist(), begins.tolist(), ends.tolist(), strict=True)) == [
        token[1:] for token in slow
    ]
    names = {}
    for token, value in zip(slow, hashes.tolist(), strict=True):
        assert names.setdefault(token[0], value) == value
    assert len(set(names.values())) == len(names)


@settings(max_examples=300, deadline=None)
@given(repetitive, st.integers(1, 6), st.booleans(), st.data())
@example(["a " * 30], 3, True, None)
@example(["a b c " * 9, "c a b " * 9], 4, False, None)
def test_cuts_are_those_of_the_definition_however_the_corpus_is_split(
    tmp_path_factory, texts, tokens, keep_first, data
):
    folder = tmp_path_factory.mktemp("cuts")
    step = SubstringDedup(tokens=tokens, keep_first=keep_first)
    ends = data.draw(st.lists(st.integers(0, len(texts)), max_size=3)) if data else []
    assert run(folder, step, texts, ends) == slow_cuts(texts, step)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), max_size=30).map(" ".join), max_size=5))
def test_without_the_first_a_suffix_array_finds_the_same(tmp_path_factory, texts):
    step = SubstringDedup(tokens=4, keep_first=False)
    cut = set()
    for row, begin, end in run(tmp_path_factory.mktemp("suffixes"), step, texts):
        for place, token in enumerate(tokens_of(texts[row])):
            if begin <= token[2] and token[3] <= end:
                cut.add((row, place))
    assert cut == suffix_array_repeats(texts, 4)


def real_texts(limit: int) -> list[str]:
    path = DATA / "multilingual"
    if not path.is_dir():
        pytest.skip(f"no real data at {DATA}")
    texts, kept = [], {}
    for file in sorted(path.glob("train-*.parquet"))[:2]:
        table = pq.read_table(file, columns=["text", "language"])
        for text, language in zip(*(table[c].to_pylist() for c in table.column_names), strict=True):
            if kept.get(language, 0) < limit and len(text) < limit:
                kept[language] = kept.get(language, 0) + len(text)
                texts.append(text)
    return texts


def test_on_real_texts_nothing_long_is_left_twice_and_nothing_else_is_cut(tmp_path):
    texts = real_texts(8_000)
    step = SubstringDedup(tokens=20)
    cuts = run(tmp_path, step, texts)
    assert len(cuts) > 50
    assert cuts == slow_cuts(texts, step)
