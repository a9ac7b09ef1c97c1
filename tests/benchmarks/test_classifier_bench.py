"""The classifier's benchmark runs and says what it measured."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).with_name("bench_classifier.py")
ROOT = BENCH.parents[2]


@pytest.mark.slow
def test_the_quick_benchmark_reaches_its_targets():
    if not (ROOT.parent / "shared" / "data" / "math").exists():
        pytest.skip("the real data is not here")
    done = subprocess.run(
        [sys.executable, str(BENCH), "--quick"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\ntook ", 1)[1].splitlines()[1:]
    claims = [re.fullmatch(r"(\w+) ([\d.]+) ([\d.]+)", line).groups() for line in lines]
    assert len(claims) == 8
    assert all(float(value) >= float(target) for _, value, target in claims), claims
    assert done.stdout.count("nearest to 0.5:") == 4
