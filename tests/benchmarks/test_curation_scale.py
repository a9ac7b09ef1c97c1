"""The benchmark of curation's memory runs and says what it measured."""

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
        "curate_steps_memory_exponent",
        "curate_documents_memory_exponent",
    ]
    assert all(-0.5 < float(value) < 0.5 and target == "0.15" for _, value, target in claims)
