"""Substring deduplication against its definition, counted out in Python."""

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
            kind, units = "word", 2 if 0xF00 <= ord(char) < 0x1000 else 4
        elif flags & WORD:
            point = ord(char)
            kind, units = "letter", 1 if point < 0x2000 or 0xA9E0 <= point < 0xAA80 else 2
        else:
            kind, units = char, 2 if 0xF00 <= ord(char) < 0x1000 else 4
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
    """(row, token) of all tokens in a run of `tokens` that is there twice, as Lee et al. do it."""
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
    [
        *("a", "b", "a ", "b ", " ", "\n\n", "-", "--", ".", "_", "1", "\x00", "é", "e\u0301"),
        *("的", "国", "語", "ก", "ำ", "ก็", "ꧠ", "가", "ཀ", "་", "།", "ཀ\u0f72"),
        *("\x1c", "\x85", "\u2028", "\u3000", "\r\n", "\t"),
        *("\u0301", "\u200c", "\u200d", "\ufffd", "\U0001f600"),
    ]
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


def test_what_is_left_of_a_text_has_no_run_that_is_elsewhere_except_across_a_join(tmp_path):
    texts = real_texts(3_000)[:400]
    rng = random.Random(2)
    texts += [" ".join(rng.sample(texts, 2)) for _ in range(40)]
    step = SubstringDedup(tokens=20, min_left=0)
    cuts = run(tmp_path, step, texts)
    left = []
    for row, text in enumerate(texts):
        data, at = text.encode(), 0
        for _, begin, end in [cut for cut in cuts if cut[0] == row]:
            left.append(data[at:begin].decode())
            at = end
        left.append(data[at:].decode())
    assert len(left) > len(texts) + 20
    assert run(tmp_path, step, left) == []


def test_rounds_after_the_first_come_to_an_end(tmp_path):
    # A cut makes neighbours of what was apart: "c d | a b" is elsewhere as "d a".
    step = SubstringDedup(tokens=2, min_left=0)
    texts = ["1 2 3", "x 1 2 3 y", "x y z"]
    sizes = []
    for _ in range(4):
        texts = dedup(tmp_path, step, texts)["text"].to_pylist()
        sizes.append(sum(map(len, texts)))
    assert texts == ["1 2 3", "x y", "z"]
    assert sizes[1] == sizes[3]


def test_the_second_round_on_distinct_prose_cuts_nothing(tmp_path):
    rng = random.Random(4)
    notice = prose(rng, 80)
    texts = [f"{prose(rng, 200)}\n\n{notice}\n\n{prose(rng, 100)}" for _ in range(20)]
    texts = dedup(tmp_path, SubstringDedup(), texts)["text"].to_pylist()
    assert notice in texts[0] and not any(notice[-100:] in text for text in texts[1:])
    assert run(tmp_path, SubstringDedup(), texts) == []


@pytest.mark.parametrize("count, cut", [(49, False), (50, True), (51, True)])
def test_fifty_words_are_cut_and_forty_nine_are_not(tmp_path, count, cut):
    rng = random.Random(count)
    same = prose(rng, count)
    texts = [f"{prose(rng, 60)} {same} {prose(rng, 60)}" for _ in range(2)]
    at = texts[1].index(same)
    assert run(tmp_path, SubstringDedup(), texts) == ([(1, at, at + len(same))] if cut else [])


@pytest.mark.parametrize("letters, enough", [("的一是不了人我在有他", 100), ("กขคงจฉชซฌญ", 200)])
def test_letters_of_unspaced_scripts_count_less_than_words(tmp_path, letters, enough):
    rng = random.Random(1)
    same = "".join(rng.choices(letters, k=enough))
    for length in (enough - 1, enough):
        texts = ["".join(rng.choices(letters, k=150)) + f" {same[:length]}. " for _ in range(2)]
        # The dot after it is a word more: left out here, as the space is cut nowhere.
        texts = [f"{text[:-2]}{mark}" for text, mark in zip(texts, "!?", strict=True)]
        assert len(run(tmp_path, SubstringDedup(), texts)) == (length == enough)


def test_languages_say_the_same_in_about_as_many_tokens():
    path = DATA / "parallel" / "ntrex128.parquet"
    if not path.is_file():
        pytest.skip(f"no real data at {DATA}")
    table = pq.read_table(path, filters=[("line", "<", 300)]).to_pandas()
    units = {
        language: int(_native.split_tokens("\n".join(texts).encode())[3].sum())
        for language, texts in table.groupby("language")["text"]
    }
    shares = {language: count / units["eng-US"] for language, count in units.items()}
    assert len(shares) > 100
    assert min(shares.values()) > 0.65 and max(shares.values()) < 1.7
    assert np.quantile(list(shares.values()), 0.9) < 1.3
    assert all(0.75 < shares[name] < 1.15 for name in ("zho-CN", "jpn", "tha", "khm", "mya", "lao"))


def test_a_passage_that_repeats_itself_is_left_once(tmp_path):
    step = SubstringDedup(min_left=0)
    for unit, left in (("a ", "a " * 50), ("的", "的" * 100), ("a b c ", "a b c " * 16 + "a b ")):
        out = dedup(tmp_path, step, [unit * 5_000])
        assert out["text"].to_pylist() == [left.strip()]


def test_very_long_texts_of_one_character_end_soon(tmp_path):
    texts = ["a" * 10**7, "a " * 10**6, "ก" * 10**6, "-" * 10**7, " " * 10**6, "\u0301" * 10**6]
    out = dedup(tmp_path, SubstringDedup(min_left=1), texts)["text"].to_pylist()
    assert out[0] == texts[0] and out[3:] == texts[3:]
    assert out[1:3] == ["a " * 49 + "a", "ก" * 200]


def test_every_text_the_same_leaves_the_first(tmp_path):
    text = prose(random.Random(0), 60)
    out = dedup(tmp_path, SubstringDedup(), [text] * 300)
    assert out["reject"].to_pylist() == [None, *["substrings:nothing_left"] * 299]
    assert set(out["text"].to_pylist()) == {text}  # what is rejected can be looked at


def test_empty_and_short_texts_are_let_through(tmp_path):
    texts = ["", " ", "one", "", "\n", "one", "\U0001f600" * 3, "e\u0301"]
    out = dedup(tmp_path, SubstringDedup(), texts)
    assert out["text"].to_pylist() == texts
    assert out["reject"].null_count == len(texts)
    assert SubstringDedup().sign(batch_of(texts))["text"].null_count == len(texts)
    assert dedup(tmp_path, SubstringDedup(), []).num_rows == 0
    SubstringDedup().merge([], tmp_path, MEMORY)
    assert pq.read_table(tmp_path / "decisions.parquet").num_rows == 0


def test_skipped_domains_and_conversations_neither_lose_nor_cost_anything(tmp_path):
    text = prose(random.Random(0), 60)
    step = SubstringDedup(min_left=0)
    assert run(tmp_path, step, [text, text], domain="code") == []
    messages = [{"role": "user", "content": "?"}]
    assert run(tmp_path, step, [text, text], messages=messages) == []
    assert len(run(tmp_path, SubstringDedup(skip_domains=()), [text] * 2, domain="code")) == 1
    rows = [{"text": text, "source": "s", "uri": d, "domain": d} for d in ("code", "web", "web")]
    pq.write_table(step.sign(make_batch(rows)), tmp_path / "mixed.parquet")
    step.merge([tmp_path / "mixed.parquet"], tmp_path, MEMORY)
    assert pq.read_table(tmp_path / "decisions.parquet")["row"].to_pylist() == [2]


@pytest.mark.parametrize(
    "text, left",
    [
        ("one [x y z] two", "one two"),
        ("one\n[x y z] two", "one\ntwo"),
        ("one [x y z]\n  two", "one\n  two"),
        ("one\n\n[x y z]\n\n\ntwo", "one\n\ntwo"),
        ("one.\r\n[x y z]\r\ntwo", "one.\ntwo"),
        ("[x y z] two", "two"),
        ("one [x y z]", "one"),
        ("one [x y z] \n", "one\n"),
        ("[x y z]", ""),
        ("  one [x y z] two\n", "  one two\n"),
        ("one,[x y z]two", "one,two"),
        ("one[,x y z,]two", "one two"),
        ("的[x y z]的", "的的"),
        ("!![x y z]!", "!! !"),
        ("![x y z]?", "!?"),
        ("é[,x y z]e\u0301", "é e\u0301"),
        ("one [x] [y] two", "one two"),
        ("one [x] and\n[y] two", "one and\ntwo"),
        ("一[x]\u0301b", "一 \u0301b"),
        ("a\u200c[,x]b", "a\u200cb"),
    ],
)
def test_joins_are_tidy_and_keep_tokens_apart(text, left):
    cuts, plain = [], ""
    for part in text.replace("]", "[").split("["):
        plain += part
        cuts.append(len(plain.encode()))
    cuts = np.array(cuts[:-1]).reshape(-1, 2)
    kept = keep(plain.encode(), cuts)
    assert "".join(piece.before + piece.text for piece in kept) == left


@settings(max_examples=300, deadline=None)
@given(repetitive, st.integers(1, 5))
def test_the_tokens_of_what_is_left_are_those_that_were_not_cut(tmp_path_factory, texts, tokens):
    folder = tmp_path_factory.mktemp("left")
    step = SubstringDedup(tokens=tokens, min_left=0)
    cuts = run(folder, step, texts)
    out = step.apply(batch_of(texts), folder / "decisions.parquet", 0)
    assert out.schema.names[:-1] == batch_of(texts).schema.names
    for row, (text, left) in enumerate(zip(texts, out["text"].to_pylist(), strict=True)):
        spans = [cut[1:] for cut in cuts if cut[0] == row]
        kept = [
            token[0]
            for token in tokens_of(text)
            if not any(begin <= token[2] and token[3] <= end for begin, end in spans)
        ]
        assert [token[0] for token in tokens_of(left)] == kept
        assert spans or left == text


def test_spans_move_with_their_text(tmp_path):
    rng = random.Random(6)
    parts = [f"é{i} {prose(rng, 60)}" for i in range(5)]
    text = "\n".join(parts)
    edges = np.cumsum([0, *(len(part.encode()) + 1 for part in parts)]).tolist()
    spans = [
        {"start": a, "end": b - 1, "kind": "file", "path": str(i)}
        for i, (a, b) in enumerate(pairwise(edges))
    ]
    spans.append({"start": 0, "end": len(text.encode()), "kind": "all", "path": None})
    rows = [
        {"text": f"{parts[1]}\n{parts[3]}", "source": "s", "domain": "web", "uri": "0"},
        {"text": text, "source": "s", "domain": "web", "uri": "1", "spans": spans},
    ]
    step = SubstringDedup()
    pq.write_table(step.sign(make_batch(rows)), tmp_path / "signed.parquet")
    step.merge([tmp_path / "signed.parquet"], tmp_path, MEMORY)
    out = step.apply(make_batch(rows), tmp_path / "decisions.parquet", 0)
    new = out["text"][1].as_py().encode()
    assert new.decode() == "\n".join(parts[i] for i in (0, 2, 4))
    found = {
        span["path"]: new[span["start"] : span["end"]].decode() for span in out["spans"][1].as_py()
    }
    assert found == {"0": parts[0], "2": parts[2], "4": parts[4], None: new.decode()}
    assert out["spans"][0].as_py() is None


def test_batches_take_only_their_own_cuts(tmp_path):
    rng = random.Random(9)
    notice = prose(rng, 50)
    texts = [f"{prose(rng, 30)} {notice if i % 3 == 0 else ''} {i}" for i in range(40)]
    step = SubstringDedup()
    whole = dedup(tmp_path, step, texts)
    for first in range(0, 40, 7):
        part = step.apply(batch_of(texts).slice(first, 7), tmp_path / "decisions.parquet", first)
        assert part.to_pylist() == whole.slice(first, 7).to_pylist()
    assert sum(a != b for a, b in zip(texts, whole["text"].to_pylist(), strict=True)) == 13


def test_little_memory_gives_the_same_cuts(tmp_path):
    # The sorters hold at least 1,024 records and merge at least eight runs: enough for all paths.
    rng = random.Random(12)
    passages = [prose(rng, 70) for _ in range(40)]
    texts = [
        " ".join([prose(rng, 150), rng.choice(passages), prose(rng, 60), rng.choice(passages)])
        for _ in range(2_000)
    ]
    step = SubstringDedup()
    cuts = run(tmp_path, step, texts)
    assert len(cuts) > 3_000
    assert run(tmp_path, step, texts, [700, 701], memory=1) == cuts
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "decisions.parquet", "signed-0.parquet", "signed-1.parquet", "signed-2.parquet"
    ]  # fmt: skip


def test_the_memory_of_a_merge_does_not_grow_with_the_corpus(tmp_path):
    code = (
        "import re, sys; from pathlib import Path; from curation.substrings import SubstringDedup\n"
        "SubstringDedup().merge([Path(sys.argv[1])], Path(sys.argv[2]), 4 << 20)\n"
        "print(re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1])\n"
    )
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc: a process cannot be asked for its peak")
    text = prose(random.Random(1), 1_000)
    peaks = []
    for copies in (20, 2_000):
        [path] = write_signed(tmp_path, SubstringDedup(), [text] * copies)
        command = [sys.executable, "-c", code, str(path), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout) * 1024)
        assert pq.read_metadata(tmp_path / "decisions.parquet").num_rows == copies - 1
    # 2,000,000 windows of 32 bytes, were they held.
    assert peaks[1] - peaks[0] < 24 << 20


def test_a_killed_merge_leaves_no_decisions_and_no_files(tmp_path):
    rng = random.Random(13)
    passages = [prose(rng, 70) for _ in range(10)]
    step = SubstringDedup()
    paths = write_signed(
        tmp_path, step, [f"{rng.choice(passages)} {prose(rng, 300)}" for _ in range(2_000)]
    )
    (tmp_path / "out").mkdir()
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "import curation.substrings as s\n"
        "class Killed(s._native.SubstringMerge):\n"
        "    def take(self, limit):\n"
        "        found = super().take(100)\n"
        "        self.taken = getattr(self, 'taken', 0) + 1\n"
        "        if self.taken == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return found\n"
        "s._native.SubstringMerge = Killed\n"
        "s.SubstringDedup().merge([Path(sys.argv[1])], Path(sys.argv[2]), 1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(paths[0]), str(tmp_path / "out")])
    assert done.returncode == -9
    left = [path.name for path in (tmp_path / "out").iterdir()]
    assert left == [".decisions.parquet.tmp"]  # the next merge writes over it
    step.merge(paths, tmp_path / "out", MEMORY)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["decisions.parquet"]
    again = (tmp_path / "out" / "decisions.parquet").read_bytes()
    step.merge(paths, tmp_path / "out", 1)
    assert (tmp_path / "out" / "decisions.parquet").read_bytes() == again


def test_a_folder_that_cannot_be_written_is_said_so(tmp_path):
    paths = write_signed(tmp_path, SubstringDedup(), [prose(random.Random(0), 20_000)] * 2)
    with pytest.raises(OSError, match="temporary file"):
        SubstringDedup().merge(paths, tmp_path / "missing", 1)


def test_a_corpus_that_changed_is_refused(tmp_path):
    text = "é" * 10 + prose(random.Random(0), 60)
    step = SubstringDedup()
    run(tmp_path, step, ["x " + text, "y " + text])
    for other in ("short", "y" + "ééé" * 500):
        with pytest.raises(ValueError, match=r"row 1: .*sign it again"):
            step.apply(batch_of(["", other]), tmp_path / "decisions.parquet", 0)
    with pytest.raises(ValueError, match="tokens, expected 60"):
        SubstringDedup(tokens=60).merge([tmp_path / "signed-0.parquet"], tmp_path, MEMORY)
    table = pq.read_table(tmp_path / "signed-0.parquet")
    wrong = table.set_column(1, "text", pa.array(["x", "y"], pa.large_string()))
    pq.write_table(wrong, tmp_path / "wrong.parquet")
    with pytest.raises(ValueError, match="row 0 is not the one that was signed"):
        step.merge([tmp_path / "wrong.parquet"], tmp_path, MEMORY)


def test_settings_are_checked():
    for bad in ({"tokens": 0}, {"tokens": 10_001}, {"skip_domains": "code"}):
        with pytest.raises(ValueError, match="expected"):
            SubstringDedup(**bad)


def test_native_calls_out_of_order_are_refused(tmp_path):
    merge = _native.SubstringMerge(str(tmp_path), MEMORY, 50, True)
    for call in (merge.next_row, merge.decide, lambda: merge.take(1)):
        with pytest.raises(RuntimeError, match="in this order"):
            call()
    merge.match()
    with pytest.raises(RuntimeError, match="in this order"):
        merge.add_samples(0, np.array([2], np.uint64), np.array([0, 1]))
    with pytest.raises(RuntimeError, match="in this order"):
        merge.match()
    with pytest.raises(ValueError, match="offsets"):
        merge.add_samples(0, np.array([2], np.uint64), np.array([0, 2]))
    with pytest.raises(ValueError, match="skip"):
        _native.sample_substrings(pa.array(["a"]), np.zeros(2, np.uint8), 50)
