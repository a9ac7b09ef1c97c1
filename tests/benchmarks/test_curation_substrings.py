"""The benchmark of substring deduplication runs, and finds what was put in twice."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DATA = HERE.parents[2] / "shared" / "data" / "multilingual"


@pytest.mark.slow
def test_it_measures_all_sizes_and_prints_its_claims():
    if not DATA.is_dir():
        pytest.skip(f"no multilingual text at {DATA}")
    done = subprocess.run(
        [sys.executable, HERE / "bench_curation_substrings.py", "--quick"],
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    rows = {
        cells[0]: [float(cell) for cell in cells[1:]]
        for cells in ([c.strip() for c in line.strip("│").split("│")] for line in lines)
        if len(cells) == 10
    }
    assert list(rows) == ["1x", "4x", "16x", "all twice"]
    assert 45 < rows["all twice"][-1] < 60 and all(rows[x][-1] < 10 for x in ("1x", "4x", "16x"))
    claims = dict(m.groups() for line in lines if (m := re.fullmatch(r"(\S+) (\S+) \S+", line)))
    assert float(claims["substrings_text_vs_state"]) > 1
    assert float(claims["substrings_16x_sign_and_merge_mb_per_second"]) > 0
