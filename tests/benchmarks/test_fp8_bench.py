"""The benchmark of FP8 runs, goes on from its results, and its accumulation claims hold."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).with_name("bench_fp8.py")


def run(results: Path, *arguments: str) -> dict[str, float]:
    """The claims: name and value."""
    done = subprocess.run(
        [sys.executable, str(BENCH), "--quick", "--results", str(results), *arguments],
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.split("\ntook ", 1)[1].splitlines()[1:]]
    assert all(len(line) == 3 for line in lines)
    return {name: float(value) for name, value, _ in lines}


@pytest.mark.slow
def test_the_benchmark_claims_and_goes_on_where_it_stopped(tmp_path):
    results = tmp_path / "runs.jsonl"
    claims = run(results)
    assert claims["accumulation_normal_gain_of_promotion"] > 10
    assert claims["fp8_loss_1M_bound_over_worst"] > 0
    runs = [json.loads(line) for line in results.read_text().splitlines()]
    assert [r["key"][-1] for r in runs] == ["fp32", "fp8", "reordered"]
    losses = {r["key"][-1]: r["losses"] for r in runs}
    assert losses["fp8"] != losses["fp32"]
    # Only the runs that are not there yet are made.
    again = run(results, "--variants", "fp32", "fp8", "fp8-dw")
    assert again["fp8_loss_1M_bound_over_mean"] == claims["fp8_loss_1M_bound_over_mean"]
    added = [json.loads(line)["key"][-1] for line in results.read_text().splitlines()[3:]]
    assert added == ["fp8-dw"]
