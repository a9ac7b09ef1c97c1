"""The benchmark of curation's memory runs and says what it measured."""

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).with_name("bench_curation_scale.py")


@pytest.mark.slow
def test_it_ends_with_the_exponents_and_their_targets():
    done = subprocess.run(
        [sys.executable, str(BENCH), "--megabytes", "0.05"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^(?:steps|documents) .*$", done.stdout, re.M)
    assert len(rows) == 6 and all(float(row.split()[-1]) > 30 for row in rows)
    claims = [line.split() for line in done.stdout.splitlines()[-2:]]
    assert [name for name, _, _ in claims] == [
        "curate_steps_peak_1x_vs_16x",
        "curate_documents_peak_1x_vs_16x",
    ]
    assert all(0.25 < float(value) < 4 and target == "0.66" for _, value, target in claims)


@pytest.mark.slow
def test_a_mixed_corpus_is_curated_with_everything():
    done = subprocess.run(
        [sys.executable, str(BENCH), "--mixed", "0.002", "--workers", "1"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    read = re.search(r"([\d,]+) documents, ([\d.,]+) MB of text read", done.stdout)
    assert int(read[1].replace(",", "")) > 50 and float(read[2].replace(",", "")) > 1.9
    peaks = re.search(r"largest process ([\d,]+) MB, all together ([\d,]+)", done.stdout)
    largest, together = (int(peak.replace(",", "")) for peak in peaks.groups())
    assert 50 < largest <= together * 2
    for name in ("filter", "documents", "paragraphs", "substrings", "kept"):
        assert name in done.stdout


def test_repeats_are_changed_and_stay_text(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH.parent))
    from mixed_corpus import changed

    for text in ("some words of a text " * 50, "没有空格的文字" * 90, "", "x"):
        made = changed(text, 10, random.Random(1))
        assert len(made.split(" ")) == len(text.split(" ")) and set(made) <= set(text)
        assert made == changed(text, 10, random.Random(1))
        differ = sum(a != b for a, b in zip(made.split(" "), text.split(" "), strict=True))
        if " " in text:
            assert 15 < differ <= 26
        elif len(text) > 1:
            assert made != text
