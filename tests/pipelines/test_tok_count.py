"""`gristmill tok count`: bounded memory, the same bytes however it went."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from pydoc_data.topics import topics

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.runner import lock
from tok import about_counts, count_words, merge_counts

TEXTS = [text for _, text in sorted(topics.items())]


def command(*arguments):
    return [sys.executable, "-m", "pipelines.cli", "tok", *map(str, arguments)]


def run(*arguments, code=0, room=None):
    """Run the command; room: the most bytes that a file may have, as on a full disk."""

    def limit():
        if room is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=200, preexec_fn=limit,
        env=os.environ | {"COLUMNS": "300", "GRISTMILL_TRACEBACK": ""},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return " ".join((done.stdout + done.stderr).split())


@pytest.fixture
def corpus(tmp_path):
    """Twelve files of documents in two languages and two domains."""
    folder = tmp_path / "text"
    folder.mkdir()
    for i in range(12):
        rows = [
            {
                "text": text + f" number{i}x{j}",
                "language": ["eng_Latn", None][j % 2],
                "domain": ["web", "code"][i % 2],
            }
            for j, text in enumerate(TEXTS[i::12])
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{i:02d}.parquet")
    return folder


def test_counts_are_those_of_the_library_by_domain_and_language(corpus, tmp_path):
    out = tmp_path / "counts.parquet"
    said = run("count", corpus, "--out", out, "--scheme", "o200k")
    tables = [pq.read_table(path) for path in sorted(corpus.iterdir())]
    want = []
    for table in tables:
        groups = [f"{row['domain']}/{row['language'] or 'unknown'}" for row in table.to_pylist()]
        want.append(count_words(table["text"], groups, "o200k"))
    assert pq.read_table(out).replace_schema_metadata().equals(merge_counts(want))
    about = about_counts(out)
    assert about["scheme"] == "o200k" and about["documents"] == len(TEXTS)
    assert f"{len(TEXTS):,} documents" in said
    assert not list(tmp_path.glob("*.parts"))


def test_memory_and_threads_change_no_byte(corpus, tmp_path):
    files = []
    for memory, threads in (("4GiB", 2), ("1", 1), ("3MB", 3)):
        files.append(tmp_path / f"{memory}.parquet")
        run("count", corpus, "--out", files[-1], "--memory", memory, "--threads", threads)
    assert len({path.read_bytes() for path in files}) == 1


def test_columns_can_be_chosen_to_count_apart_by(corpus, tmp_path):
    run("count", corpus, "--out", tmp_path / "c.parquet", "--group", "domain")
    groups = pq.read_table(tmp_path / "c.parquet")["group"]
    assert set(groups.to_pylist()) == {"web", "code"}


@pytest.mark.slow
def test_a_killed_count_goes_on_and_ends_in_the_same_bytes(corpus, tmp_path):
    whole, out = tmp_path / "whole.parquet", tmp_path / "counts.parquet"
    run("count", corpus, "--out", whole)
    # Memory of one byte: every batch is spilled, so there is something to be killed between.
    parts = Path(f"{out}.parts")
    process = subprocess.Popen(
        command("count", corpus, "--out", out, "--memory", "1"),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None and not (parts / "progress.json").exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists(), "it ended before it could be killed"
    done = json.loads((parts / "progress.json").read_text())["batches"]
    assert 0 < done <= 12
    refused = run("count", corpus, "--out", out, "--scheme", "gpt2", code=1)
    assert "other scheme" in refused and "--restart" in refused
    run("count", corpus, "--out", out)
    assert out.read_bytes() == whole.read_bytes() and not parts.exists()


def test_a_disk_without_room_is_told_and_nothing_is_lost(corpus, tmp_path):
    whole, out = tmp_path / "whole.parquet", tmp_path / "counts.parquet"
    run("count", corpus, "--out", whole)
    # No spilled part fits: nothing to go on from, so nothing is left behind.
    said = run("count", corpus, "--out", out, "--memory", "1", code=1, room=1000)
    assert f"{out}: cannot be written: " in said and "make room" in said
    assert not out.exists() and not Path(f"{out}.parts").exists()
    # The parts fit, the whole does not: the same command with more room ends in the same bytes.
    room = whole.stat().st_size // 2
    run("count", corpus, "--out", out, "--memory", "1", code=1, room=room)
    assert not out.exists() and any(Path(f"{out}.parts").glob("run-*"))
    run("count", corpus, "--out", out, "--memory", "1")
    assert out.read_bytes() == whole.read_bytes() and not Path(f"{out}.parts").exists()


def test_mistakes_are_told_in_a_line(corpus, tmp_path, mistake):
    out = tmp_path / "c.parquet"
    assert "expected one of" in mistake("count", corpus, "--out", out, "--scheme", "gpt9")
    assert "no such file" in mistake("count", tmp_path / "none", "--out", out)
    assert "--memory many" in mistake("count", corpus, "--out", out, "--memory", "many")
    pq.write_table(pa.table({"body": ["a"]}), tmp_path / "other.parquet")
    assert "no column 'text'" in mistake("count", tmp_path / "other.parquet", "--out", out)
    text = next(corpus.iterdir())
    for arguments, said in (
        (["--out", text], "is read from"), (["--out", corpus], "is a folder"),
        (["--out", ""], "expected the name"), (["--out", text / "c"], "is no folder"),
        (["--out", out, "--memory", "-1GB"], "expected a size"),
        (["--out", out, "--memory", "inf"], "expected a size"),
        (["--out", out, "--group", "source"], "has no such column"),
        (["--out", out, "--group", "text"], "cannot tell kinds apart"),
    ):  # fmt: skip
        assert said in mistake("count", text, *arguments)
    Path(f"{out}.parts").mkdir()
    (Path(f"{out}.parts") / "progress.json").write_text('{"job": 3}')
    assert "damaged; begin anew with --restart" in mistake("count", corpus, "--out", out)
    assert not out.exists()
    run("count", text, "--out", out, "--restart")


def test_two_counts_at_once_do_not_spoil_each_other(corpus, tmp_path):
    out = tmp_path / "c.parquet"
    with lock(Path(f"{out}.parts")):
        assert "wait for it" in run("count", corpus, "--out", out, code=1)
    run("count", corpus, "--out", out)
    assert sorted(tmp_path.iterdir()) == [out, corpus]


def test_text_without_words_is_counted_with_a_warning(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "", "language": "\\ud800"}\n')
    said = run("count", tmp_path / "a.jsonl", "--out", tmp_path / "c.parquet")
    assert "no words in the text" in said and "0 words by group, of 1 documents" in said
