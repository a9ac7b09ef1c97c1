"""The benchmark of planning runs and says what it claims."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).with_name("bench_packing_plan.py")


@pytest.mark.slow
def test_the_quick_benchmark_of_planning_prints_its_claims():
    done = subprocess.run(
        [sys.executable, str(BENCH), "--quick"], capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\ntook ", 1)[1].splitlines()[1:]
    assert all(re.fullmatch(r"\S+ [\d.]+ [\d.]+", line) for line in lines)
    claims = {name: float(value) for name, value, _ in map(str.split, lines)}
    for name in ("plan_mdocuments_per_second", "mix_what_if_two_seconds_over"):
        assert claims[name] > 0
    for length in (512, 4096):  # which no load of the machine changes
        assert claims[f"pack_fill_{length}"] >= 0.999
