"""The benchmark of curation runs, and its last lines are claims that hold by far."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).with_name("bench_curation.py")
DATA = BENCH.resolve().parents[2].parent / "shared" / "data" / "multilingual"


@pytest.mark.slow
def test_the_quality_part_gives_a_figure_for_every_filter():
    if not DATA.is_dir():
        pytest.skip(f"no real documents in {DATA}")
    pytest.importorskip("spacy", reason="datatrove's filters need spaCy")
    done = subprocess.run(
        [sys.executable, str(BENCH), "--quick", "--runs", "1", "--only", "quality"],
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    tables, claims = done.stdout.split("\ntook ", 1)
    for name in ("gopher", "gopher_quality", "gopher_repetition", "c4", "fineweb", "length"):
        assert re.search(rf"^│ {name} +│ +\d+ │", tables, re.MULTILINE), name
    lines = claims.splitlines()[1:]
    assert {line.split()[0] for line in lines} == {
        "gopher_vs_datatrove",
        "c4_vs_datatrove",
        "fineweb_vs_datatrove",
    }
    assert all(float(line.split()[1]) > 1 for line in lines)
