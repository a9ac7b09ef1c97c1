"""`gristmill tok train`, as a person runs it."""

import json
import os
import resource
import subprocess
import sys
from pydoc_data.topics import topics

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models

from tok import Encoder, count_words, train_tokenizer, weigh, write_counts

TEXTS = [text for _, text in sorted(topics.items())][:20]
GERMAN = "Der schnelle braune Fuchs springt über den faulen Hund und schläft danach ein. " * 40


def run(*arguments, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "tok", "train", *map(str, arguments)],
        capture_output=True, text=True, timeout=200,
        env=os.environ | {"COLUMNS": "300", "GRISTMILL_TRACEBACK": ""},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return " ".join((done.stdout + done.stderr).split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    texts, groups = [*TEXTS, GERMAN], ["web/eng_Latn"] * len(TEXTS) + ["web/deu_Latn"]
    rows = [
        {"text": text, "language": group[4:], "domain": "web"}
        for text, group in zip(texts, groups, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "text.parquet")
    counts = count_words(texts, groups, "multilingual")
    write_counts([counts], folder / "counts.parquet", {"scheme": "multilingual"})
    return folder


def test_a_disk_without_room_leaves_no_half_tokenizer(folder, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "tok", "train", str(folder / "counts.parquet"),
         "--out", str(tmp_path / "t"), "--vocab-size", "2000"],
        capture_output=True, text=True, timeout=200,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )  # fmt: skip
    assert done.returncode == 1 and "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "t" / "tokenizer.json").exists()
    run(folder / "counts.parquet", "--out", tmp_path / "t", "--vocab-size", 2000)


def test_counts_and_text_give_the_tokenizer_of_the_library(folder, tmp_path):
    for source in ("counts", "text"):
        run(folder / f"{source}.parquet", "--out", tmp_path / source, "--vocab-size", 700)
    made = [(tmp_path / source / "tokenizer.json").read_bytes() for source in ("counts", "text")]
    counts = weigh(pq.read_table(folder / "counts.parquet"))
    assert made[0] == made[1]
    want = train_tokenizer(counts, 700, "multilingual", min_count=2)
    assert json.loads(made[0]) == json.loads(want.to_str())
    merges = pq.read_table(tmp_path / "counts" / "merges.parquet").to_pylist()
    assert len(merges) == 700 - 259
    assert all(row["left"] + row["right"] == row["token"] and row["count"] > 1 for row in merges)
    about = json.loads((tmp_path / "text" / "tokenizer_training.json").read_text())
    assert about["scheme"] == "multilingual" and about["options"]["vocab_size"] == 700


def test_weights_and_lists_of_tokens_have_their_say(folder, tmp_path):
    (tmp_path / "protect").write_bytes(rb"Donaudampfschiff\x21" + b"\n\xe2\x82\xac\xe2\x82\xac\n")
    (tmp_path / "forbid").write_bytes(b"the\n the\n")
    run(
        folder / "counts.parquet", "--out", tmp_path / "out", "--vocab-size", 600, "--weight",
        "web/deu_Latn=1000", "--protect", tmp_path / "protect", "--forbid", tmp_path / "forbid",
        "--reserved", 3,
    )  # fmt: skip
    encoder = Encoder.load(tmp_path / "out")
    assert len(encoder.encode(" schnelle braune")) == 2
    assert len(encoder.encode("€€")) == 1
    vocabulary = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json")).get_vocab()
    assert "Donaudampfschiff!" in vocabulary and "Ġthe" not in vocabulary
    assert vocabulary["<｜place▁holder▁no▁2｜>"] == max(vocabulary.values()) == 607


def test_superwords_reach_across_spaces_and_tokenizers_agrees(folder, tmp_path):
    run(
        folder / "text.parquet", "--out", tmp_path / "out", "--vocab-size", 900,
        "--superword-after", 600,
    )  # fmt: skip
    encoder = Encoder.load(tmp_path / "out")
    theirs = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    theirs.encode_special_tokens = True
    assert encoder.scheme == "multilingual-superword"
    text = "\n\n".join([GERMAN, *TEXTS[3:6]])
    ids = encoder.encode(text)
    assert ids == theirs.encode(text, add_special_tokens=False).ids
    assert any(encoder.token_bytes(i).strip().count(b" ") for i in ids)


def test_an_extended_tokenizer_keeps_its_ids(folder, tmp_path):
    run(folder / "counts.parquet", "--out", tmp_path / "a", "--vocab-size", 400)
    base = Tokenizer.from_file(str(tmp_path / "a" / "tokenizer.json")).get_vocab()
    run(
        folder / "counts.parquet", "--out", tmp_path / "b", "--extend",
        tmp_path / "a" / "tokenizer.json", "--vocab-size", 450,
    )  # fmt: skip
    more = Tokenizer.from_file(str(tmp_path / "b" / "tokenizer.json")).get_vocab()
    assert {token: more[token] for token in base} == base and len(more) == 450


def test_parity_helps_the_language_that_is_worst_off(folder, tmp_path):
    dev = [
        {"text": "The quick brown fox jumps over the lazy dog.", "language": "eng_Latn"},
        {"text": "Der schnelle braune Fuchs springt über den Hund.", "language": "deu_Latn"},
        {"text": "Ketu.", "language": "xxx_Latn"},
    ]
    pq.write_table(pa.Table.from_pylist(dev), tmp_path / "dev.parquet")
    counts = folder / "counts.parquet"
    run(counts, "--out", tmp_path / "plain", "--vocab-size", 420)
    said = run(
        counts, "--out", tmp_path / "fair", "--vocab-size", 420, "--parity",
        tmp_path / "dev.parquet", "--parity-merges", 100,
    )  # fmt: skip
    assert "no counts for 1 of its languages, left out: xxx_Latn" in said
    plain, fair = (Encoder.load(tmp_path / name) for name in ("plain", "fair"))

    def gap(encoder):
        english, german = (len(encoder.encode(row["text"])) for row in dev[:2])
        return abs(english - german)

    assert gap(fair) < gap(plain)


def test_a_vocabulary_larger_than_the_text_allows_is_said_to_be_smaller(folder, tmp_path):
    (tmp_path / "few.txt").write_text("der Hund und der Hut " * 9)
    said = run(tmp_path / "few.txt", "--out", tmp_path / "out", "--vocab-size", 1000)
    tokens = Encoder.load(tmp_path / "out")
    made = tokens.special["fim_hole"]  # the first token behind begin, end, padding, bytes, merges
    assert f"{1000 - made} tokens fewer than --vocab-size 1,000 asks for: no pair" in said


def test_what_is_extended_says_by_which_scheme_text_is_cut(folder, tmp_path):
    base = train_tokenizer(weigh(count_words(TEXTS[:3], scheme="o200k")), 400, "o200k")
    base.save(str(tmp_path / "base.json"))
    run(
        folder / "text.parquet", "--out", tmp_path / "out", "--extend", tmp_path / "base.json",
        "--vocab-size", 500,
    )  # fmt: skip
    assert Encoder.load(tmp_path / "out").scheme == "o200k"
    Tokenizer(models.WordPiece({"a": 0}, unk_token="a")).save(str(tmp_path / "other.json"))
    for arguments, said in (
        (["--extend", tmp_path / "other.json"], "cannot be extended: its model is WordPiece"),
        (["--extend", tmp_path / "base.json", "--reserved", 2], "--reserved: cannot be combined"),
        (["--extend", tmp_path / "base.json", "--vocab-size", 300], "has 405 tokens already"),
        (["--extend", tmp_path / "base.json"], "count with --scheme o200k"),
    ):
        assert said in run(folder / "counts.parquet", "--out", tmp_path / "no", *arguments, code=1)
    assert not (tmp_path / "no").exists()


def test_mistakes_are_told_in_a_line(folder, tmp_path, mistake):
    counts, out = folder / "counts.parquet", tmp_path / "out"
    (tmp_path / "both").write_text("the\n")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "long").write_text("x" * 5000)
    (tmp_path / "many").write_text("abcdef\nghijkl\n" + "\n".join(f"{i}" for i in range(100, 200)))
    (tmp_path / "foreign.jsonl").write_text('{"text": "Ketu.", "language": "xxx_Latn"}\n')
    for arguments, said in (
        (["--vocab-size", 100], "at least 259"),
        (["--weight", "web/eng=2"], "near: ['web/eng_Latn'"),
        (["--weight", "web/eng_Latn=much"], "expected GROUP=FACTOR"),
        (["--scheme", "gpt2"], "counted by scheme multilingual, not gpt2"),
        (["--superword-after", 280], "needs the text"),
        (["--temperature", 0], "must be positive"),
        (["--protect", tmp_path / "none"], "none: No such file"),
        (["--protect", tmp_path / "both", "--forbid", tmp_path / "both"], "which"),
        (["--superword-after", 297], "expected less than the 297 bytes and merges"),
        (["--superword-counts", counts], "without --superword-after"),
        (["--superword-after", 280, "--superword-counts", counts], "by scheme multilingual, exp"),
        (["--parity", tmp_path / "both"], "no text with a `language`"),
        (["--parity", tmp_path / "foreign.jsonl"], "none of its languages (xxx_Latn, …) is a"),
        (["--parity-merges", 3], "do nothing without --parity"),
        (["--parity", tmp_path / "foreign.jsonl", "--parity-alpha", "nan"], "must be positive"),
        (["--vocab-size", 10**20], "expected at most"),
        (["--reserved", 10**6], "expected at most 65,536"),
        (["--weight", "web/eng_Latn=1e300"], "give smaller weights"),
        (["--weights", tmp_path / "deep.json"], "deep.json: damaged"),
        (["--weights", tmp_path], "Is a directory; expected JSON"),
        (["--protect", tmp_path / "long"], "a token of 5,000 bytes"),
        (["--protect", tmp_path / "many"], "which has room for 297"),
    ):
        assert said in mistake("train", counts, "--out", out, "--vocab-size", 300, *arguments)
    assert "no such file" in mistake("train", tmp_path / "none", "--out", out)
    assert "is a file; expected" in mistake("train", counts, "--out", tmp_path / "both")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "bad.txt").write_bytes(b"caf\xe9")
    assert "no words left" in mistake("train", tmp_path / "empty.txt", "--out", out)
    assert "no UTF-8 at byte 3" in mistake("train", tmp_path / "bad.txt", "--out", out)
    assert not out.exists()
    run(counts, "--out", out, "--vocab-size", 300)
    assert "--force" in mistake("train", counts, "--out", out, "--vocab-size", 300)


@pytest.mark.parametrize(
    ("words", "counts", "about", "said"),
    [
        ([b"ab", None], [5, 6], b"{}", "nulls in the column 'word'"),
        ([b"ab"], [-5], b"{}", "counts below 0 or above 2^53"),
        ([b"ab"], [2**60], b"{}", "counts below 0 or above 2^53"),
        ([1], [5], b"{}", "Unsupported cast"),
        (["ab"], ["many"], b"{}", "Failed to parse"),
        ([b"ab"], [5], b"{nope", "expected Parquet with word counts (Expecting"),
        ([b"ab"], [5], b"[1]", "its metadata is damaged"),
        ([b"ab"], [5], b'{"scheme": [1]}', "its metadata is damaged"),
    ],
)
def test_damaged_counts_are_named(tmp_path, mistake, words, counts, about, said):
    table = pa.table({"word": words, "group": ["x"] * len(words), "count": counts})
    path = tmp_path / "c.parquet"
    pq.write_table(table.replace_schema_metadata({b"gristmill.counts": about}), path)
    told = mistake("train", path, "--out", tmp_path / "out")
    assert f"error: {path}: " in told and said in told and not (tmp_path / "out").exists()
