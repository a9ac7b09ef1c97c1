"""`gristmill tok weights`, as a person runs it."""

import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tok import Encoder, balance, count_words, write_counts

ENGLISH = "The quick brown fox jumps over the lazy dog and sleeps. "
GERMAN = "Der schnelle braune Fuchs springt über den faulen Hund und schläft. "
GROUPS = {
    "eng_Latn/stories": ENGLISH * 90,
    "deu_Latn/stories": GERMAN * 30,
    "deu_Latn/laws": "Das Nähere regelt ein Bundesgesetz. " * 90,
    "code/python": "for line in lines:\n    print(line)\n" * 50,
}


def run(folder, *arguments, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "tok", *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, timeout=200,
        env=os.environ | {"COLUMNS": "300", "GRISTMILL_TRACEBACK": ""},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return " ".join((done.stdout + done.stderr).split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    counts = count_words(list(GROUPS.values()), list(GROUPS), "multilingual")
    write_counts([counts], folder / "counts.parquet", {"scheme": "multilingual"})
    texts = [("en", ENGLISH, 0), ("de", GERMAN + "ßßßßß\\", 0), ("de", "Bundesgesetz " * 50, 7)]
    rows = [dict(zip(("language", "text", "line"), row, strict=True)) for row in texts]
    pq.write_table(pa.Table.from_pylist(rows), folder / "dev.parquet")
    return folder


def test_the_weights_are_the_librarys_and_training_takes_them(folder):
    said = run(
        folder, "weights", "counts.parquet", "--like", "dev.parquet", "--lines", "0-6", "--out",
        "weights.json", "--protect-out", "tokens", "--sequences", "de=5", "--boost", "de=2",
        "--share", "code/python=0.25", "--vocab-size", 400,
    )  # fmt: skip
    assert "groups, by text in 2 languages" in said
    found = json.loads((folder / "weights.json").read_text())
    counts = pq.read_table(folder / "counts.parquet")
    dev = {"de": [GERMAN + "ßßßßß\\"], "en": [ENGLISH]}
    assert found == balance(
        counts, dev, 400, "multilingual", boost={"de": 2}, shares={"code/python": 0.25}
    )
    tokens = (folder / "tokens").read_text().splitlines()
    assert tokens[0] == "ß" and len(tokens) == 6
    run(
        folder, "train", "counts.parquet", "--out", "made", "--vocab-size", 400, "--weights",
        "weights.json", "--protect", "tokens",
    )  # fmt: skip
    assert len(Encoder.load(folder / "made").encode("ß")) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--share", "cod=0.1"], "no group 'cod'"),
        (["--share", "code/python=all"], "--share: expected GROUP=SHARE"),
        (["--boost", "fr=2"], "no language 'fr'"),
        (["--sequences", "de=5"], "give --protect-out"),
        (["--sequences", "fr=5", "--protect-out", "tokens2"], "--sequences fr: no such language"),
        (["--lines", "50-60"], "development text is empty"),
        (["--boost", "de=nan"], "--boost de=nan: expected a number from 0"),
        (["--sequences", "de=2.5", "--protect-out", "p"], "expected a whole number"),
        (["--protect-out", "none.json"], "need two files"),
        (["--protect-out", "."], "expected the name of a file"),
        (["--vocab-size", "3000000000"], "too large"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(folder, arguments, message):
    out = folder / "none.json"
    said = run(
        folder, "weights", "counts.parquet", "--like", "dev.parquet", "--out", out, *arguments,
        code=1,
    )  # fmt: skip
    assert message in said
    assert not out.exists()


def test_counts_of_two_schemes_are_refused(folder):
    counts = count_words(["a b"], "x", "gpt2")
    write_counts([counts], folder / "other.parquet", {"scheme": "gpt2"})
    said = run(
        folder, "weights", "counts.parquet", "other.parquet", "--like", "dev.parquet", "--out",
        "none.json", code=1,
    )  # fmt: skip
    assert "expected counts by one scheme" in said and "gpt2" in said
