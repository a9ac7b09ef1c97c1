"""The model's benchmark runs, on its tiny model; what it says of speed is not looked at."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).with_name("bench_train.py")


@pytest.mark.slow
def test_the_benchmark_measures_both_sides_and_every_part():
    done = subprocess.run(
        [sys.executable, str(BENCH), "--quick", "--threads", "1"],
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    output = done.stdout
    lines = output.split("\ntook ", 1)[1].splitlines()[1:]
    assert all(re.fullmatch(r"\S+ \S+ \S+", line) for line in lines)
    claims = {line.split()[0]: float(line.split()[1]) for line in lines}
    for name in ("train_tiny_64", "generate_tiny", "memory_tiny_64"):
        assert claims[f"{name}_vs_transformers"] > 0
    # Both sides learn the same, and say the same.
    assert float(re.search(r"losses after \d+ steps differ by (\S+)", output)[1]) < 1e-4
    rows = [line.split("│") for line in output.splitlines() if line.startswith("│ tiny │")]
    # Generation, and speculation with the learned module and a worse one.
    assert [row[-2].strip() for row in rows] == ["100%", "True", "True"]
    shares = [
        float(line.split("│")[2].split("%")[0])
        for line in output.splitlines()
        if re.match(r"│ (attention|experts|router|dense|head and loss|norms|optimizer|rest)", line)
    ]
    assert len(shares) == 8
    assert sum(shares) == pytest.approx(100, abs=1)
    # The parts of a model take time forward and backward.
    assert min(shares[:6]) > 0
