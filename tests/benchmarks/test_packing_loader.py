"""The loader's benchmark runs and says what it claims."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).with_name("bench_packing_loader.py")


@pytest.mark.slow
def test_the_quick_benchmark_of_the_loader_prints_its_claims():
    done = subprocess.run(
        [sys.executable, str(BENCH), "--quick"], capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\ntook ", 1)[1].splitlines()[1:]
    assert all(re.fullmatch(r"\S+ [\d.]+ [\d.]+", line) for line in lines)
    names = {line.split()[0].rstrip("0123456789") for line in lines}
    for name in ("loader_mtokens_per_second_512_documents_", "loader_memory_small_over_ten_times",
                 "trace_step_per_second_of_a_million_documents"):  # fmt: skip
        assert name in names
