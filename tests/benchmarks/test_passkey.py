"""The benchmark of longer contexts runs and says what it claims."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).with_name("bench_passkey.py")


@pytest.mark.slow
def test_the_quick_passkey_benchmark_prints_its_claims():
    done = subprocess.run(
        [sys.executable, str(BENCH), "--quick"], capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()[-3:]
    assert all(re.fullmatch(r"\S+ -?[\d.]+ [\d.]+", line) for line in lines)
    names = [line.split()[0] for line in lines]
    assert names == ["passkey_256_extended", "passkey_256_gain", "passkey_64_extended"]
